// How a viewer comes in: version, security and initialisation messages (RFC 6143, 7.1 to 7.3; VeNCrypt 0.2).
//
// Supported: RFB 3.3, 3.7 and 3.8; no authentication, VNC authentication, each also behind VeNCrypt's TLS with anonymous or
// X.509 credentials. Missing: SASL, plain passwords. Thread: the loop's.
#pragma once

#include "display/surface.h"
#include "display/vnc/pixel_format.h"
#include "display/vnc/settings.h"
#include "display/vnc/spec.h"
#include "display/vnc/wire.h"

namespace atl::display::vnc {

class Handshake {
 public:
  /// `secured`: the connection is encrypted already, as that of a WebSocket over TLS.
  Handshake(const Settings& settings, bool secured, std::vector<u8>& output);

  /// Reads the next message. The error, if there is one to tell, has been put into the output.
  Parsed parse(InputBytes& input);
  bool done() const { return state_ == State::Done; }
  /// TLS is agreed on: what follows in both directions is encrypted. Then tls_done() goes on.
  bool wants_tls() const { return state_ == State::Tls; }
  Parsed tls_done();
  /// Asked at the end: whether other viewers may stay.
  bool shared() const { return shared_; }

 private:
  enum class State : u8 { Version, Security, TlsVersion, TlsKind, Tls, Challenge, Init, Done };

  Parsed parse_version(InputBytes& input);
  Parsed parse_security(InputBytes& input);
  Parsed parse_tls_version(InputBytes& input);
  Parsed parse_tls_kind(InputBytes& input);
  Parsed parse_response(InputBytes& input);
  Parsed parse_init(InputBytes& input);
  Parsed impose_security();
  Parsed begin_password();
  Parsed let_in();
  Parsed refuse(std::string_view reason);
  bool password_holds() const;
  bool needs_tls() const { return settings_.tls && !secured_; }
  Security offered() const;
  SubSecurity offered_kind() const;

  const Settings& settings_;
  const bool secured_;
  std::vector<u8>& output_;
  State state_ = State::Version;
  unsigned minor_ = 8;           // of the protocol 3.x
  u8 challenge_[16]{};
  bool shared_ = true;
};

}  // namespace atl::display::vnc
