// Listening sockets: non-blocking, closed on exec.
#pragma once

#include <netdb.h>
#include <sys/un.h>

#include <memory>
#include <string>

#include "base/fd.h"

namespace atl {

/// The error says that the path is too long.
Result<sockaddr_un> unix_address(const std::string& path);
/// A stream socket.
Result<Fd> make_socket(int family);

struct AddressListFree {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, AddressListFree>;
/// The addresses of a host and port. Passive: to listen on; an empty host is then every interface, else this machine.
Result<AddressList> resolve_tcp(const std::string& host, const std::string& port, bool passive);

/// Replaces a socket that an earlier run left behind at `path`.
Result<Fd> listen_unix(const std::string& path);
/// On the first of the addresses that can be had.
Result<Fd> listen_tcp(const std::string& host, const std::string& port);

}  // namespace atl
