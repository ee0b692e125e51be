// A connection's bytes through TLS. After the handshake, which checks the client's certificate, one byte 1 goes to the
// client before any frame: libvirt's clients wait for it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/tls.h"
#include "manage/rpc/transport.h"

namespace atl::manage::rpc {

class TlsTransport final : public Transport {
 public:
  static atl::Result<std::unique_ptr<TlsTransport>> create(Fd socket,
                                                           std::shared_ptr<const TlsCredentials> credentials,
                                                           std::vector<std::string> allowed_names);

  atl::Result<size_t> read(std::span<u8> out, std::vector<Fd>& fds) override;
  atl::Result<size_t> write(std::span<const u8> data) override;
  bool has_unsent() const override { return sent_ < pending_.size() || session_->has_output(); }
  bool is_ready() const override { return ready_; }

 private:
  TlsTransport(Fd socket, std::unique_ptr<TlsSession> session, std::vector<std::string> allowed_names)
      : Transport(std::move(socket)), session_(std::move(session)), allowed_names_(std::move(allowed_names)) {}
  atl::Status check_name() const;
  atl::Status shake_hands();
  atl::Status flush();

  std::unique_ptr<TlsSession> session_;
  const std::vector<std::string> allowed_names_;
  std::string pending_;  // ciphertext for the socket
  size_t sent_ = 0;      // of it
  bool ready_ = false;
};

}  // namespace atl::manage::rpc
