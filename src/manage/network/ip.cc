#include "manage/network/ip.h"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>

namespace atl::manage {

std::optional<IpAddress> parse_ip(std::string_view text) {
  std::string whole(text);
  IpAddress address;
  address.v6 = text.find(':') != std::string_view::npos;
  if (::inet_pton(address.v6 ? AF_INET6 : AF_INET, whole.c_str(), address.bytes.data()) != 1) return std::nullopt;
  return address;
}

std::string ip_text(const IpAddress& address) {
  char text[INET6_ADDRSTRLEN];
  ::inet_ntop(address.v6 ? AF_INET6 : AF_INET, address.bytes.data(), text, sizeof text);
  return text;
}

IpAddress network_of(const IpAddress& address, unsigned prefix) {
  IpAddress network = address;
  for (unsigned bit = prefix; bit < address.bits(); ++bit)
    network.bytes[bit / 8] &= static_cast<u8>(~(0x80 >> bit % 8));
  return network;
}

IpAddress last_of(const IpAddress& address, unsigned prefix) {
  IpAddress last = address;
  for (unsigned bit = prefix; bit < address.bits(); ++bit) last.bytes[bit / 8] |= static_cast<u8>(0x80 >> bit % 8);
  return last;
}

bool contains(const IpAddress& network, unsigned prefix, const IpAddress& address) {
  return network.v6 == address.v6 && network_of(network, prefix) == network_of(address, prefix);
}

std::optional<unsigned> prefix_of_mask(const IpAddress& mask) {
  if (mask.v6) return std::nullopt;
  u32 bits = 0;
  for (size_t i = 0; i < 4; ++i) bits = bits << 8 | mask.bytes[i];
  unsigned ones = static_cast<unsigned>(std::countl_one(bits));
  if (ones < 32 && bits << ones) return std::nullopt;
  return ones;
}

IpAddress mask_of_prefix(unsigned prefix) {
  IpAddress all;
  std::fill_n(all.bytes.begin(), 4, u8{0xff});
  return network_of(all, prefix);
}

u64 distance(const IpAddress& first, const IpAddress& last) {
  if (first.v6 != last.v6 || last < first) return 0;
  constexpr u64 kMost = u64{1} << 32;
  u64 count = 0;
  for (unsigned i = 0; i < first.bits() / 8; ++i) {
    // Two's complement across the bytes: what has grown beyond the limit never comes back below it.
    i64 step = static_cast<i64>(count << 8) + last.bytes[i] - first.bytes[i];
    if (step < 0) return 0;
    count = std::min(static_cast<u64>(step), u64{1} << 40);
  }
  return std::min(count + 1, kMost);
}

}  // namespace atl::manage
