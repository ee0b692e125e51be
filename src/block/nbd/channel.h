// A byte stream over a socket, plain or TLS, read and written by coroutines. One reader and one writer at a time. Programs
// that use it ignore SIGPIPE: io_uring's writes raise it like others.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/loop.h"
#include "base/task.h"
#include "base/tls.h"

namespace atl::block::nbd {

class Channel {
 public:
  /// `socket` is a connected, blocking stream socket.
  Channel(Loop& loop, Fd socket) : loop_(loop), socket_(std::move(socket)) {}

  /// Fills `out`; the end of the stream is an error (ECONNRESET).
  Task<Status> read_exact(std::span<u8> out);
  Task<Status> read_exact(std::span<const iovec> out);
  /// Reads and forgets.
  Task<Status> skip(u64 bytes);
  Task<Status> write_all(std::span<const u8> data);
  Task<Status> write_all(std::vector<iovec> parts);
  /// Goes over to TLS. Bytes that came in before the handshake would be an attack, and are an error.
  Task<Status> start_tls(std::shared_ptr<const TlsCredentials> credentials, std::string hostname);
  bool is_encrypted() const { return tls_ != nullptr; }
  /// A last few bytes, as far as the socket takes them without waiting.
  void write_now(std::span<const u8> data);
  /// Ends both directions: pending operations fail. May be called again.
  void shutdown();

 private:
  Task<Result<size_t>> receive(std::span<u8> out);
  Task<Status> fill();
  Task<Status> send_raw(std::vector<iovec> parts);
  Task<Status> send_tls_output();
  Task<Status> tls_handshake();

  static constexpr size_t kBufferBytes = 64 * kKiB;

  Loop& loop_;
  Fd socket_;
  std::unique_ptr<TlsSession> tls_;
  std::vector<u8> buffer_;        // plaintext read ahead
  size_t begin_ = 0, end_ = 0;    // of it
};

}  // namespace atl::block::nbd
