// Bytes that must not stay in memory: keys, passwords and what they are derived from.
#pragma once

#include <string.h>

#include <memory>
#include <vector>

#include "base/types.h"

namespace atl::block::crypto {

/// Wipes memory before it goes back.
template <class T>
struct WipingAllocator {
  using value_type = T;

  WipingAllocator() = default;
  template <class U>
  WipingAllocator(const WipingAllocator<U>&) {}
  T* allocate(size_t n) { return std::allocator<T>().allocate(n); }
  void deallocate(T* at, size_t n) {
    ::explicit_bzero(at, n * sizeof(T));
    std::allocator<T>().deallocate(at, n);
  }
  bool operator==(const WipingAllocator&) const { return true; }
};

using KeyBytes = std::vector<u8, WipingAllocator<u8>>;

}  // namespace atl::block::crypto
