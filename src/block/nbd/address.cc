#include "block/nbd/address.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>

#include "base/sockets.h"

namespace atl::block::nbd {
namespace {

/// Waits until a descriptor is ready.
class Ready {
 public:
  Ready(Loop& loop, int fd, u32 events) : loop_(loop), fd_(fd), events_(events) {}
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    watch_ = std::make_unique<Loop::Watch>(loop_, fd_, events_, [this, waiter](u32) {
      watch_->set_events(0);
      loop_.post([waiter] { waiter.resume(); });  // not from inside the watch, which goes with us
    });
  }
  void await_resume() { watch_.reset(); }

 private:
  Loop& loop_;
  int fd_;
  u32 events_;
  std::unique_ptr<Loop::Watch> watch_;
};

Task<Result<Fd>> connect_socket(Loop& loop, const sockaddr* address, socklen_t size) {
  Fd socket = CO_TRY(make_socket(address->sa_family));
  int r = ::connect(socket.get(), address, size);
  if (r < 0 && errno != EINPROGRESS) co_return os_error("connect");
  if (r < 0) {
    Ready writable(loop, socket.get(), POLLOUT);
    co_await writable;
    int err = 0;
    socklen_t length = sizeof err;
    ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &err, &length);
    if (err) co_return os_error("connect", err);
  }
  ::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) & ~O_NONBLOCK);
  int on = 1;
  if (address->sa_family != AF_UNIX) ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  co_return socket;
}

Error cannot_connect(const Address& address, const Error& cause) {
  return Error(cause.kind(), fmt::format("Failed to connect to '{}': {}", address.text(), std::strerror(cause.os_errno())),
               cause.os_errno());
}

}  // namespace

Task<Result<Fd>> connect_to(Loop& loop, Address address) {
  if (address.is_unix()) {
    sockaddr_un place = CO_TRY(unix_address(address.path));
    auto socket = co_await connect_socket(loop, reinterpret_cast<const sockaddr*>(&place), sizeof place);
    if (!socket) co_return cannot_connect(address, socket.error());
    co_return socket;
  }
  AddressList list = CO_TRY(resolve_tcp(address.host, address.port, false));
  Result<Fd> socket = os_error("connect", EINVAL);
  for (addrinfo* at = list.get(); at; at = at->ai_next) {
    socket = co_await connect_socket(loop, at->ai_addr, at->ai_addrlen);
    if (socket) co_return socket;
  }
  co_return cannot_connect(address, socket.error());
}

Result<Fd> listen_at(const Address& address) {
  if (address.is_unix()) return listen_unix(address.path);
  return listen_tcp(address.host, address.port);
}

}  // namespace atl::block::nbd
