#include "block/iovecs.h"

#include <algorithm>
#include <cstring>

#include "base/endian.h"

namespace atl::block {
namespace {

constexpr u64 kZeroBytes = 64 * kKiB;
alignas(kPageSize) constexpr u8 kZeroes[kZeroBytes] = {};

bool is_zero(const u8* at, u64 size) {
  // The first bytes decide for nearly all data; after that the block is compared with itself, shifted.
  u64 head = std::min<u64>(size, 16);
  for (u64 i = 0; i < head; ++i)
    if (at[i]) return false;
  return size <= 16 || std::memcmp(at, at + 16, size - 16) == 0;
}

}  // namespace

u64 iovec_bytes(std::span<const iovec> list) {
  u64 sum = 0;
  for (const iovec& part : list) sum += part.iov_len;
  return sum;
}

std::vector<iovec> iovec_slice(std::span<const iovec> list, u64 skip, u64 limit) {
  std::vector<iovec> rest;
  for (const iovec& part : list) {
    u64 cut = std::min<u64>(skip, part.iov_len);
    skip -= cut;
    u64 n = std::min<u64>(part.iov_len - cut, limit);
    if (n == 0) continue;
    rest.push_back({static_cast<u8*>(part.iov_base) + cut, n});
    limit -= n;
  }
  return rest;
}

void iovec_clear(std::span<const iovec> list, u64 skip) {
  for (const iovec& part : list) {
    u64 cut = std::min<u64>(skip, part.iov_len);
    skip -= cut;
    if (cut < part.iov_len) std::memset(static_cast<u8*>(part.iov_base) + cut, 0, part.iov_len - cut);
  }
}

void iovec_copy_to(std::span<const iovec> list, std::span<const u8> data) {
  for (const iovec& part : list) {
    u64 n = std::min<u64>(part.iov_len, data.size());
    if (n) std::memcpy(part.iov_base, data.data(), n);
    data = data.subspan(n);
  }
}

void iovec_copy_from(std::span<const iovec> list, std::span<u8> data) {
  for (const iovec& part : list) {
    u64 n = std::min<u64>(part.iov_len, data.size());
    if (n) std::memcpy(data.data(), part.iov_base, n);
    data = data.subspan(n);
  }
}

bool iovec_is_zero(std::span<const iovec> list) {
  return std::all_of(list.begin(), list.end(),
                     [](const iovec& part) { return is_zero(static_cast<const u8*>(part.iov_base), part.iov_len); });
}

bool iovec_is_aligned(std::span<const iovec> list, u64 address_alignment, u64 length_alignment) {
  u64 odd = 0;
  for (const iovec& part : list)
    odd |= (reinterpret_cast<u64>(part.iov_base) & (address_alignment - 1)) | (part.iov_len & (length_alignment - 1));
  return odd == 0;
}

std::vector<iovec> iovec_zeroes(u64 size) {
  std::vector<iovec> list;
  for (u64 left = std::min(size, kMaxZeroes); left > 0;) {
    u64 n = std::min(left, kZeroBytes);
    list.push_back({const_cast<u8*>(kZeroes), n});  // only ever written from
    left -= n;
  }
  return list;
}

}  // namespace atl::block
