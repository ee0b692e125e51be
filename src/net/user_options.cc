#include "net/user_options.h"

#include <arpa/inet.h>

#include <fmt/core.h>

#include "base/strings.h"

namespace atl::net {

namespace {

constexpr u32 kHostNumber = 2, kDnsNumber = 3, kDhcpNumber = 15;

in_addr from_number(u32 number) { return {.s_addr = htonl(number)}; }
u32 to_number(in_addr address) { return ntohl(address.s_addr); }

/// "10.0.2.0/24", "10.0.2.0/255.255.255.0" or "10.0.2.0" (with 24 bits).
Result<UserAddresses> parse_network(const std::string& text) {
  UserAddresses result;
  size_t slash = text.find('/');
  in_addr address = TRY(parse_ipv4(text.substr(0, slash), {}, "net"));
  u32 mask = 0xffffff00;
  if (slash != std::string::npos) {
    std::string tail = text.substr(slash + 1);
    if (auto length = parse_u64(tail)) {
      if (*length < 4 || *length > 30) return Error(ErrorKind::Invalid, fmt::format("net={}: prefix must be 4 to 30", text));
      mask = ~u32{0} << (32 - *length);
    } else {
      mask = to_number(TRY(parse_ipv4(tail, {}, "net")));
    }
  }
  result.mask = from_number(mask);
  result.network = from_number(to_number(address) & mask);
  return result;
}

}  // namespace

Result<in_addr> parse_ipv4(const std::string& text, in_addr fallback, const char* what) {
  if (text.empty()) return fallback;
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1)
    return Error(ErrorKind::Invalid, fmt::format("{}={}: not an IPv4 address", what, text));
  return address;
}

Result<UserAddresses> resolve_user_addresses(const UserOptions& options) {
  UserAddresses result = TRY(parse_network(options.net));
  auto numbered = [&](u32 number) { return from_number(to_number(result.network) | number); };
  result.host = TRY(parse_ipv4(options.host, numbered(kHostNumber), "host"));
  result.dns = TRY(parse_ipv4(options.dns, numbered(kDnsNumber), "dns"));
  result.dhcp_start = TRY(parse_ipv4(options.dhcp_start, numbered(kDhcpNumber), "dhcpstart"));
  const struct {
    in_addr address;
    const char* what;
  } inside[] = {{result.host, "host"}, {result.dns, "dns"}, {result.dhcp_start, "dhcpstart"}};
  for (const auto& each : inside)
    if ((each.address.s_addr & result.mask.s_addr) != result.network.s_addr)
      return Error(ErrorKind::Invalid, fmt::format("{} lies outside of net={}", each.what, options.net));
  if (result.host.s_addr == result.dns.s_addr) return Error(ErrorKind::Invalid, "host and dns are the same address");
  return result;
}

}  // namespace atl::net
