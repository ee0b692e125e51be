// Sizes and counts on command lines, with qemu-img's complaints.
#pragma once

#include <optional>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace atl::img {

inline constexpr u64 kMaxSize = (u64{1} << 63) - 1;

/// A number in [low, high] with an optional suffix; `what` ("image size") for the error.
Result<u64> parse_amount(std::string_view what, std::string_view text, u64 low = 0, u64 high = kMaxSize);
/// A count without suffix in [low, high]; the error is `message` with a full stop of its own.
Result<u64> parse_count(std::string_view text, u64 low, u64 high, std::string_view message);

}  // namespace atl::img
