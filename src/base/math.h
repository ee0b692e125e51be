// Checked and rounding arithmetic on sizes and addresses that others gave us.
#pragma once

#include <optional>

#include "base/types.h"

namespace atl {

constexpr std::optional<u64> checked_add(u64 a, u64 b) {
  u64 sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

constexpr std::optional<u64> checked_mul(u64 a, u64 b) {
  u64 product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

/// Whether [start, start + size) lies inside [0, limit), without overflow.
constexpr bool range_fits(u64 start, u64 size, u64 limit) { return start <= limit && size <= limit - start; }

constexpr u64 align_down(u64 value, u64 power_of_two) { return value & ~(power_of_two - 1); }
/// The caller has made sure that `value + power_of_two` does not overflow.
constexpr u64 align_up(u64 value, u64 power_of_two) { return align_down(value + power_of_two - 1, power_of_two); }
constexpr bool is_power_of_two(u64 value) { return value != 0 && (value & (value - 1)) == 0; }
/// Bits [low, low + count) of `value`; count below 64.
constexpr u64 bits(u64 value, unsigned low, unsigned count) { return (value >> low) & ((u64{1} << count) - 1); }

}  // namespace atl
