// An owned mmap region.
#pragma once

#include <sys/mman.h>

#include <span>
#include <utility>

#include "base/fd.h"
#include "base/result.h"
#include "base/types.h"

namespace atl {

/// Owns one mmap'ed region; unmaps it in the destructor. Move-only.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Mapping() {
    if (data_) ::munmap(data_, size_);
  }

  /// Private zeroed memory. `flags` adds to MAP_PRIVATE | MAP_ANONYMOUS (MAP_NORESERVE, MAP_HUGETLB ...). `alignment` is a
  /// power of two.
  static Result<Mapping> anonymous(u64 size_bytes, int protection = PROT_READ | PROT_WRITE, int flags = 0,
                                   u64 alignment = kPageSize);
  /// `flags` is MAP_SHARED or MAP_PRIVATE, with extras.
  static Result<Mapping> of_file(const Fd& fd, u64 offset, u64 size_bytes, int protection, int flags);

  u8* data() const { return data_; }
  u64 size() const { return size_; }
  std::span<u8> span() const { return {data_, size_}; }

 private:
  Mapping(void* data, u64 size) : data_(static_cast<u8*>(data)), size_(size) {}

  u8* data_ = nullptr;
  u64 size_ = 0;
};

}  // namespace atl
