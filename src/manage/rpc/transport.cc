#include "manage/rpc/transport.h"

#include <sys/socket.h>

#include <cstring>

#include "manage/rpc/frame.h"

namespace atl::manage::rpc {

namespace {

void take_fds(msghdr& message, std::vector<Fd>& fds) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

bool is_later(int err) { return err == EAGAIN || err == EWOULDBLOCK || err == EINTR; }

}  // namespace

atl::Result<size_t> Transport::read(std::span<u8> out, std::vector<Fd>& fds) {
  iovec iov{out.data(), out.size()};
  alignas(cmsghdr) u8 control[CMSG_SPACE(kMaxFds * sizeof(int))];
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n = ::recvmsg(fd(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0 && is_later(errno)) return 0;
  if (n < 0) return os_error("read from client");
  if (n == 0) return atl::Error(ErrorKind::Io, "end of file while reading data");
  take_fds(message, fds);
  return static_cast<size_t>(n);
}

atl::Result<size_t> Transport::write(std::span<const u8> data) {
  ssize_t n = ::send(fd(), data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && is_later(errno)) return 0;
  if (n < 0) return os_error("write to client");
  return static_cast<size_t>(n);
}

atl::Result<bool> Transport::write_fd(const Fd& passed) {
  u8 zero = 0;
  iovec iov{&zero, 1};
  alignas(cmsghdr) u8 control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  int number = passed.get();
  std::memcpy(CMSG_DATA(c), &number, sizeof number);
  ssize_t n = ::sendmsg(fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && is_later(errno)) return false;
  if (n < 0) return os_error("pass a descriptor");
  return true;
}

}  // namespace atl::manage::rpc
