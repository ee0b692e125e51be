#include "net/vnet_header.h"

#include "base/endian.h"
#include "base/math.h"
#include "net/backend.h"

namespace atl::net {

namespace {

constexpr u32 kFlags = 0, kChecksumStart = 6, kChecksumOffset = 8;

u64 add_carry(u64 a, u64 b) {
  u64 sum = 0;
  bool carry = __builtin_add_overflow(a, b, &sum);
  return sum + carry;
}

}  // namespace

/// Words are summed in memory order, eight bytes at a time: the sum does not depend on byte order (RFC 1071, 2 B and C).
u16 internet_sum(std::span<const u8> data) {
  u64 sum = 0;
  size_t at = 0;
  for (; at + 8 <= data.size(); at += 8) sum = add_carry(sum, load_le<u64>(&data[at]));
  if (at < data.size()) sum = add_carry(sum, load_le_n(&data[at], static_cast<unsigned>(data.size() - at)));
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<u16>(sum);
}

bool finish_checksum(std::span<u8> packet) {
  if (packet.size() < kVnetHeaderBytes) return false;
  if (!(packet[kFlags] & kVnetNeedsChecksum)) return true;
  u64 start = load_le<u16>(&packet[kChecksumStart]), offset = load_le<u16>(&packet[kChecksumOffset]);
  std::span<u8> frame = packet.subspan(kVnetHeaderBytes);
  if (!range_fits(start, offset + 2, frame.size())) return false;
  u16 sum = static_cast<u16>(~internet_sum(frame.subspan(start)));
  store_le<u16>(&frame[start + offset], sum ? sum : 0xffff);
  return true;
}

}  // namespace atl::net
