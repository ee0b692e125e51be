// The bytes of a client's connection: plain, or through TLS, or through SASL's layer; never blocks.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/types.h"

namespace atl::manage::rpc {

class Transport {
 public:
  explicit Transport(Fd socket) : socket_(std::move(socket)) {}
  virtual ~Transport() = default;

  virtual int fd() const { return socket_.get(); }
  /// Bytes read; 0: nothing there now. The end of the stream is an error. Descriptors that come along are put into `fds`.
  virtual atl::Result<size_t> read(std::span<u8> out, std::vector<Fd>& fds);
  /// Bytes taken; less than all: come back when the socket is writable.
  virtual atl::Result<size_t> write(std::span<const u8> data);
  /// Whether bytes that write() took still wait for the socket.
  virtual bool has_unsent() const { return false; }
  /// One zero byte with a descriptor on it. False: come back when the socket is writable.
  atl::Result<bool> write_fd(const Fd& fd);
  /// False while the connection is still being set up (TLS's handshake).
  virtual bool is_ready() const { return true; }

 private:
  Fd socket_;
};

}  // namespace atl::manage::rpc
