#include "base/mapping.h"

#include <fmt/format.h>

#include "base/math.h"

namespace atl {

Result<Mapping> Mapping::anonymous(u64 size_bytes, int protection, int flags, u64 alignment) {
  constexpr int kKind = MAP_PRIVATE | MAP_ANONYMOUS;
  auto sum = checked_add(size_bytes, alignment);
  auto refused = [&] { return os_error(fmt::format("map {} bytes", size_bytes), sum ? errno : ENOMEM); };
  if (!sum) return refused();
  if (alignment <= kPageSize) {
    void* at = ::mmap(nullptr, size_bytes, protection, kKind | flags, -1, 0);
    if (at == MAP_FAILED) return refused();
    return Mapping(at, size_bytes);
  }
  // Address space that costs nothing, out of which the aligned part is kept.
  void* space = ::mmap(nullptr, *sum, PROT_NONE, kKind | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) return refused();
  auto* start = static_cast<u8*>(space);
  u8* aligned = start + (align_up(reinterpret_cast<u64>(start), alignment) - reinterpret_cast<u64>(start));
  u64 page_end = align_up(size_bytes, kPageSize);
  if (aligned > start) ::munmap(start, static_cast<u64>(aligned - start));
  if (u64 tail = static_cast<u64>(start + align_up(*sum, kPageSize) - (aligned + page_end)); tail > 0)
    ::munmap(aligned + page_end, tail);
  if (::mmap(aligned, size_bytes, protection, kKind | MAP_FIXED | flags, -1, 0) == MAP_FAILED) {
    Error error = refused();
    ::munmap(aligned, page_end);
    return error;
  }
  return Mapping(aligned, size_bytes);
}

Result<Mapping> Mapping::of_file(const Fd& fd, u64 offset, u64 size_bytes, int protection, int flags) {
  void* at = ::mmap(nullptr, size_bytes, protection, flags, fd.get(), static_cast<off_t>(offset));
  if (at == MAP_FAILED) return os_error(fmt::format("map {} bytes of a file", size_bytes));
  return Mapping(at, size_bytes);
}

}  // namespace atl
