// Compressed clusters of the older formats: raw deflate, zlib and bzip2 streams of known size.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl::block {

enum class Stream : u8 { Deflate, Zlib };

/// Gives the bytes that came out, at most what fits; more is an error.
Result<u64> inflate(Stream form, std::span<const u8> from, std::span<u8> to);
Result<u64> bunzip2(std::span<const u8> from, std::span<u8> to);
/// Empty if the result would not be smaller than `limit`. `window_bits` is 9 to 15.
Result<std::vector<u8>> deflate(Stream form, std::span<const u8> from, u64 limit, int window_bits);

}  // namespace atl::block
