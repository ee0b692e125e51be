// IPv4 and IPv6 addresses with a prefix, as networks are configured.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "base/types.h"

namespace atl::manage {

struct IpAddress {
  bool v6 = false;
  std::array<u8, 16> bytes{};  // an IPv4 address in the first four

  unsigned bits() const { return v6 ? 128 : 32; }
  auto operator<=>(const IpAddress&) const = default;
};

std::optional<IpAddress> parse_ip(std::string_view text);
std::string ip_text(const IpAddress& address);
/// With all bits behind the prefix cleared.
IpAddress network_of(const IpAddress& address, unsigned prefix);
/// With all of them set: an IPv4 network's broadcast address.
IpAddress last_of(const IpAddress& address, unsigned prefix);
bool contains(const IpAddress& network, unsigned prefix, const IpAddress& address);
/// The prefix of a mask such as 255.255.255.0.
std::optional<unsigned> prefix_of_mask(const IpAddress& mask);
IpAddress mask_of_prefix(unsigned prefix);
/// How many addresses lie from `first` to `last`, at most 2^32; 0 if they are the wrong way round.
u64 distance(const IpAddress& first, const IpAddress& last);

}  // namespace atl::manage
