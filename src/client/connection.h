// A client's connection to the management daemon (or to any daemon that speaks libvirt's protocol over a Unix socket): one
// thread, one call at a time, blocking.
//
// Missing: TLS, TCP, SASL, events.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "manage/error.h"
#include "manage/rpc/frame.h"
#include "manage/rpc/objects.h"
#include "manage/rpc/procedure.h"
#include "manage/rpc/xdr.h"

namespace atl::client {

using manage::Proc;
using manage::Result;
using manage::Status;

/// Where the daemon listens, out of "qemu:///system", "qemu+unix:///system?socket=PATH" or a path. `read_only` chooses
/// between the two sockets of a folder.
Result<std::string> socket_of(const std::string& uri, bool read_only);

class Connection {
 public:
  /// Opens the hypervisor, too.
  static Result<std::unique_ptr<Connection>> open(const std::string& uri, bool read_only);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Calls with the encoded arguments; gives the reply's payload.
  template <class... T>
  Result<std::vector<u8>> call(Proc procedure, const T&... arguments) {
    manage::XdrWriter out;
    out.write(arguments...);
    return exchange(static_cast<u32>(procedure), out.take());
  }
  /// The same, and decodes the reply's first value.
  template <class R, class... T>
  Result<R> get(Proc procedure, const T&... arguments) {
    std::vector<u8> payload = TRY(call(procedure, arguments...));
    R value{};
    TRY(manage::XdrReader(payload).read(value));
    return value;
  }

  // The stream that the last call opened.
  Status send_stream(std::span<const u8> data);
  /// Data until the daemon's end; then the stream is closed.
  Status receive_stream(const std::function<Status(std::span<const u8>)>& sink);
  /// Says that all was sent, and waits until it is taken.
  Status finish_stream();
  /// Takes what the daemon sends and what `terminal` types, until the escape character or the end.
  Status run_console(int terminal, u8 escape);

 private:
  explicit Connection(Fd socket) : socket_(std::move(socket)) {}
  Result<std::vector<u8>> exchange(u32 procedure, std::vector<u8> payload);
  Status send(manage::rpc::FrameType type, manage::rpc::FrameStatus status, std::span<const u8> payload);
  /// The next frame that belongs to the current call; pings are answered on the way.
  Result<manage::rpc::Frame> receive();
  Status read_exact(std::span<u8> out);

  Fd socket_;
  manage::rpc::Header header_;  // of the current call
  u32 next_serial_ = 0;
};

}  // namespace atl::client
