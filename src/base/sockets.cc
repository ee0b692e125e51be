#include "base/sockets.h"

#include <sys/socket.h>

#include <fmt/format.h>

namespace atl {

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(ErrorKind::Invalid, fmt::format("UNIX socket path '{}' is too long: at most {} bytes", path,
                                                 sizeof address.sun_path - 1));
  path.copy(address.sun_path, path.size());
  return address;
}

Result<Fd> make_socket(int family) {
  Fd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return os_error("create a socket");
  return fd;
}

Result<AddressList> resolve_tcp(const std::string& host, const std::string& port, bool passive) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = passive ? AI_PASSIVE : 0;
  addrinfo* list = nullptr;
  const char* name = host.empty() ? (passive ? nullptr : "localhost") : host.c_str();
  if (int err = ::getaddrinfo(name, port.c_str(), &hints, &list); err != 0)
    return Error(ErrorKind::Invalid, fmt::format("address resolution failed for {}:{}: {}", host, port, ::gai_strerror(err)));
  return AddressList(list);
}

Result<Fd> listen_unix(const std::string& path) {
  sockaddr_un address = TRY(unix_address(path));
  Fd fd = TRY(make_socket(AF_UNIX));
  ::unlink(path.c_str());
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
    return os_error(fmt::format("Failed to bind socket to {}", path));
  if (::listen(fd.get(), 8) < 0) return os_error("listen on " + path);
  return fd;
}

Result<Fd> listen_tcp(const std::string& host, const std::string& port) {
  AddressList list = TRY(resolve_tcp(host, port, true));
  int err = EADDRNOTAVAIL;
  for (addrinfo* a = list.get(); a; a = a->ai_next) {
    Fd fd = TRY(make_socket(a->ai_family));
    int one = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (::bind(fd.get(), a->ai_addr, a->ai_addrlen) == 0 && ::listen(fd.get(), 8) == 0) return fd;
    err = errno;
  }
  return os_error(fmt::format("Failed to listen on tcp:{}:{}", host, port), err);
}

}  // namespace atl
