// Takes a fuzzer's input apart: numbers from the front, zeroes once it is used up.
#pragma once

#include <algorithm>
#include <span>

#include "base/types.h"

namespace atl::fuzz {

class Input {
 public:
  Input(const u8* data, size_t size) : rest_(data, size) {}
  bool empty() const { return rest_.empty(); }
  std::span<const u8> rest() const { return rest_; }
  u8 byte() {
    if (rest_.empty()) return 0;
    u8 value = rest_.front();
    rest_ = rest_.subspan(1);
    return value;
  }
  u16 word() {
    u16 low = byte();
    return static_cast<u16>(low | byte() << 8);
  }
  u32 dword() {
    u32 low = word();
    return low | u32{word()} << 16;
  }
  /// At most `size` of the bytes that are left.
  std::span<const u8> bytes(size_t size) {
    auto taken = rest_.first(std::min(size, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }

 private:
  std::span<const u8> rest_;
};

}  // namespace atl::fuzz
