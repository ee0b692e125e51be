#include "display/vnc/handshake.h"

#include <nettle/des.h>
#include <sys/random.h>

#include <algorithm>

#include "base/clock.h"

namespace atl::display::vnc {
namespace {

constexpr size_t kDesKey = 8;
constexpr i64 kSecond_ns = 1'000'000'000;

/// What the viewer must answer (7.2.2): DES with the password's bytes mirrored.
void expected_response(const std::string& password, const u8 (&challenge)[16], u8 (&out)[16]) {
  u8 key[kDesKey] = {};
  for (size_t i = 0; i < std::min(password.size(), kDesKey); ++i)
    for (unsigned bit = 0; bit < 8; ++bit)
      if (password[i] >> bit & 1) key[i] |= static_cast<u8>(0x80 >> bit);
  des_ctx context;
  nettle_des_set_key(&context, key);
  nettle_des_encrypt(&context, sizeof challenge, out, challenge);
}

/// Without telling by time how much was right.
bool equal_secrets(const u8* a, const u8* b, size_t size) {
  u8 difference = 0;
  for (size_t i = 0; i < size; ++i) difference |= a[i] ^ b[i];
  return difference == 0;
}

}  // namespace

Handshake::Handshake(const Settings& settings, bool secured, std::vector<u8>& output)
    : settings_(settings), secured_(secured), output_(output) {
  output_.insert(output_.end(), kVersion, kVersion + kVersionBytes);
}

Parsed Handshake::parse(InputBytes& input) {
  switch (state_) {
    case State::Version: return parse_version(input);
    case State::Security: return parse_security(input);
    case State::TlsVersion: return parse_tls_version(input);
    case State::TlsKind: return parse_tls_kind(input);
    case State::Challenge: return parse_response(input);
    case State::Init: return parse_init(input);
    default: return Parsed::Broken;  // nobody parses while TLS begins, or behind the end
  }
}

Security Handshake::offered() const {
  if (needs_tls()) return Security::VeNCrypt;
  return settings_.password ? Security::Vnc : Security::None;
}

SubSecurity Handshake::offered_kind() const {
  if (settings_.anonymous_tls) return settings_.password ? SubSecurity::TlsVnc : SubSecurity::TlsNone;
  return settings_.password ? SubSecurity::X509Vnc : SubSecurity::X509None;
}

/// "RFB 003.00x\n"; what is not 3.7 or 3.8 counts as 3.3 (7.1.1).
Parsed Handshake::parse_version(InputBytes& input) {
  if (!input.has(kVersionBytes)) return Parsed::NeedMore;
  const std::string text(input.here(), input.here() + kVersionBytes);
  input.take(kVersionBytes);
  if (!text.starts_with("RFB 003.") || text.back() != '\n') return Parsed::Broken;
  minor_ = text == kVersion ? 8 : text == "RFB 003.007\n" ? 7 : 3;
  if (minor_ == 3) return impose_security();
  output_.push_back(1);
  output_.push_back(static_cast<u8>(offered()));
  state_ = State::Security;
  return Parsed::Done;
}

/// In 3.3 the server chooses, and has nothing encrypted to choose.
Parsed Handshake::impose_security() {
  if (needs_tls()) {
    put32(output_, static_cast<u32>(Security::Invalid));
    put_text(output_, "Encryption needs version 3.7 of the protocol");
    return Parsed::Broken;
  }
  put32(output_, static_cast<u32>(offered()));
  return settings_.password ? begin_password() : let_in();
}

Parsed Handshake::parse_security(InputBytes& input) {
  const u8 chosen = input.byte(0);
  input.take(1);
  if (chosen != static_cast<u8>(offered())) return refuse("This security type was not offered");
  if (!needs_tls()) return settings_.password ? begin_password() : let_in();
  output_.insert(output_.end(), {0, 2});  // VeNCrypt's version
  state_ = State::TlsVersion;
  return Parsed::Done;
}

Parsed Handshake::parse_tls_version(InputBytes& input) {
  if (!input.has(2)) return Parsed::NeedMore;
  const bool known = input.byte(0) == 0 && input.byte(1) == 2;
  input.take(2);
  output_.push_back(known ? 0 : 1);
  if (!known) return Parsed::Broken;
  output_.push_back(1);
  put32(output_, static_cast<u32>(offered_kind()));
  state_ = State::TlsKind;
  return Parsed::Done;
}

Parsed Handshake::parse_tls_kind(InputBytes& input) {
  if (!input.has(4)) return Parsed::NeedMore;
  const bool known = input.be32(0) == static_cast<u32>(offered_kind());
  input.take(4);
  output_.push_back(known ? 1 : 0);
  if (!known) return Parsed::Broken;
  state_ = State::Tls;
  return Parsed::Done;
}

Parsed Handshake::tls_done() { return settings_.password ? begin_password() : let_in(); }

Parsed Handshake::begin_password() {
  if (::getrandom(challenge_, sizeof challenge_, 0) != sizeof challenge_) return Parsed::Broken;
  output_.insert(output_.end(), challenge_, challenge_ + sizeof challenge_);
  state_ = State::Challenge;
  return Parsed::Done;
}

bool Handshake::password_holds() const {
  const i64 end = settings_.password_ends;
  return !settings_.password->empty() && (end == 0 || static_cast<i64>(realtime_ns()) / kSecond_ns < end);
}

Parsed Handshake::parse_response(InputBytes& input) {
  if (!input.has(sizeof challenge_)) return Parsed::NeedMore;
  u8 wanted[16];
  expected_response(settings_.password.value_or(""), challenge_, wanted);
  const bool right = settings_.password && password_holds() && equal_secrets(input.here(), wanted, sizeof wanted);
  input.take(sizeof challenge_);
  if (!right) return refuse("Authentication failed");
  put32(output_, 0);
  state_ = State::Init;
  return Parsed::Done;
}

/// No password: before 3.8 nothing is said about it.
Parsed Handshake::let_in() {
  if (minor_ == 8) put32(output_, 0);
  state_ = State::Init;
  return Parsed::Done;
}

Parsed Handshake::refuse(std::string_view reason) {
  put32(output_, 1);
  if (minor_ == 8) put_text(output_, reason);
  return Parsed::Broken;
}

Parsed Handshake::parse_init(InputBytes& input) {
  shared_ = input.byte(0) != 0;
  input.take(1);
  state_ = State::Done;
  return Parsed::Done;
}

}  // namespace atl::display::vnc
