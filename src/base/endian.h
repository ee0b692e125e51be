// Little- and big-endian loads and stores at any alignment.
#pragma once

#include <bit>
#include <concepts>
#include <cstring>

#include "base/types.h"

namespace atl {

static_assert(std::endian::native == std::endian::little, "Atoll runs on x86-64 hosts");

template <std::unsigned_integral T>
T load_le(const void* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <std::unsigned_integral T>
void store_le(void* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

template <std::unsigned_integral T>
T load_be(const void* at) {
  return std::byteswap(load_le<T>(at));
}

template <std::unsigned_integral T>
void store_be(void* at, T value) {
  store_le<T>(at, std::byteswap(value));
}

/// The `width` (1, 2, 4 or 8) bytes at `at`, zero-extended.
inline u64 load_le_n(const void* at, unsigned width) {
  u64 value = 0;
  std::memcpy(&value, at, width);
  return value;
}

inline void store_le_n(void* at, u64 value, unsigned width) { std::memcpy(at, &value, width); }

/// All ones in the low `width` bytes (1 to 8).
constexpr u64 byte_mask(unsigned width) { return width >= 8 ? ~u64{0} : (u64{1} << (8 * width)) - 1; }

}  // namespace atl
