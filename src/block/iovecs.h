// Work on lists of buffers.
#pragma once

#include <sys/uio.h>

#include <span>
#include <vector>

#include "base/types.h"

namespace atl::block {

u64 iovec_bytes(std::span<const iovec> list);
/// The part of `list` from `skip` on, at most `limit` bytes of it.
std::vector<iovec> iovec_slice(std::span<const iovec> list, u64 skip, u64 limit = ~u64{0});
/// Zeroes the bytes from `skip` on.
void iovec_clear(std::span<const iovec> list, u64 skip = 0);
void iovec_copy_to(std::span<const iovec> list, std::span<const u8> data);
void iovec_copy_from(std::span<const iovec> list, std::span<u8> data);
bool iovec_is_zero(std::span<const iovec> list);
/// Whether every buffer's address and length are multiples of the (powers of two) alignments.
bool iovec_is_aligned(std::span<const iovec> list, u64 address_alignment, u64 length_alignment);

/// A page-aligned stretch of zeroes to write from, repeated up to `size` bytes or `kMaxZeroes`, whichever is less.
inline constexpr u64 kMaxZeroes = 4 * kMiB;
std::vector<iovec> iovec_zeroes(u64 size);

}  // namespace atl::block
