// The colours of a piece of picture, in order of appearance, and their places.
#pragma once

#include <array>
#include <span>

#include "base/types.h"

namespace atl::display::vnc {

class Palette {
 public:
  static constexpr u32 kMax = 256;

  /// Starts anew; false if there are more than `limit` (at most kMax) colours: the palette is of no use then.
  bool collect(std::span<const u32> pixels, u32 limit);
  u32 size() const { return size_; }
  u32 colour(u32 index) const { return colours_[index]; }
  std::span<const u32> colours() const { return {colours_.data(), size_}; }
  /// Of a colour that collect() has seen.
  u32 index_of(u32 pixel) const;

 private:
  static constexpr u32 kSlots = 1024;   // open addressing; never more than a quarter full
  static u32 slot_of(u32 pixel) { return pixel * 0x9e3779b1u >> 22; }

  std::array<u32, kMax> colours_;
  std::array<u16, kSlots> slots_;       // index + 1; 0: free
  u32 size_ = 0;
};

}  // namespace atl::display::vnc
