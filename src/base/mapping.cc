#include "base/mapping.h"

#include <fmt/format.h>

namespace atl {

Result<Mapping> Mapping::anonymous(u64 size_bytes, int protection, int flags) {
  void* at = ::mmap(nullptr, size_bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (at == MAP_FAILED) return os_error(fmt::format("map {} bytes", size_bytes));
  return Mapping(at, size_bytes);
}

Result<Mapping> Mapping::of_file(const Fd& fd, u64 offset, u64 size_bytes, int protection, int flags) {
  void* at = ::mmap(nullptr, size_bytes, protection, flags, fd.get(), static_cast<off_t>(offset));
  if (at == MAP_FAILED) return os_error(fmt::format("map {} bytes of a file", size_bytes));
  return Mapping(at, size_bytes);
}

}  // namespace atl
