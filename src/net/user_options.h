// The addresses of a user-mode network, from its options. Private to net.
#pragma once

#include <netinet/in.h>

#include "base/result.h"
#include "net/backend.h"

namespace atl::net {

struct UserAddresses {
  in_addr network{}, mask{}, host{}, dns{}, dhcp_start{};
};

/// host, dns and dhcp_start are .2, .3 and .15 of the network where the options leave them out. Errors name the option.
Result<UserAddresses> resolve_user_addresses(const UserOptions& options);
/// A dotted IPv4 address; `fallback` for "". The error names `what`.
Result<in_addr> parse_ipv4(const std::string& text, in_addr fallback, const char* what);

}  // namespace atl::net
