// SASL (RFC 4422) by Cyrus's library: a server's side of one login, and the layer that may encrypt what follows it.
//
// The application's name is "libvirt", as clients expect: mechanisms are configured in /etc/sasl2/libvirt.conf. Over plain
// TCP only mechanisms that encrypt are offered; a local socket or TLS takes any.
#pragma once

#include <sasl/sasl.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/sync.h"
#include "manage/error.h"
#include "manage/rpc/transport.h"

namespace atl::manage::rpc {

class SaslSession {
 public:
  /// Once before the first session.
  static Status init_library();
  /// `safe`: nobody can listen on the way.
  static Result<std::shared_ptr<SaslSession>> create(bool safe);
  ~SaslSession();
  SaslSession(const SaslSession&) = delete;
  SaslSession& operator=(const SaslSession&) = delete;

  /// The mechanisms on offer, separated by commas.
  Result<std::string> mechanisms();
  struct Answer {
    std::optional<std::string> data;
    bool complete = false;
  };
  /// The client's choice and first data.
  Result<Answer> start(const std::string& mechanism, const std::optional<std::string>& data);
  Result<Answer> step(const std::optional<std::string>& data);
  /// Who it is, once complete.
  Result<std::string> user();
  /// Whether what follows goes through encode() and decode().
  bool has_layer();
  atl::Result<std::string> encode(std::span<const u8> data);
  atl::Result<std::string> decode(std::span<const u8> data);

 private:
  SaslSession(sasl_conn_t* connection, bool safe) : connection_(connection), safe_(safe) {}
  Result<Answer> answer(int result, const char* data, unsigned length);
  Error failed(int result) const;

  Mutex mutex_;
  sasl_conn_t* const connection_;
  const bool safe_;
  bool started_ = false, complete_ = false;
};

/// The bytes of `below` through the session's layer.
std::unique_ptr<Transport> make_sasl_transport(std::unique_ptr<Transport> below, std::shared_ptr<SaslSession> session);

}  // namespace atl::manage::rpc
