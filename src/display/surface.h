// A picture in host memory, 32 bits a pixel (0x00rrggbb), and which rows of it changed.
#pragma once

#include <span>
#include <vector>

#include "base/types.h"

namespace atl::display {

struct Rect {
  u32 x = 0, y = 0, width = 0, height = 0;
  bool operator==(const Rect&) const = default;
};

class Surface {
 public:
  Surface() = default;
  Surface(u32 width, u32 height) { resize(width, height); }

  u32 width() const { return width_; }
  u32 height() const { return height_; }
  bool empty() const { return pixels_.empty(); }
  /// Black, whatever was there.
  void resize(u32 width, u32 height) {
    width_ = width;
    height_ = height;
    pixels_.assign(size_t{width} * height, 0);
  }
  std::span<u32> row(u32 y) { return std::span(pixels_).subspan(size_t{y} * width_, width_); }
  std::span<const u32> row(u32 y) const { return std::span(pixels_).subspan(size_t{y} * width_, width_); }
  std::span<const u32> pixels() const { return pixels_; }
  bool operator==(const Surface&) const = default;

 private:
  u32 width_ = 0, height_ = 0;
  std::vector<u32> pixels_;
};

}  // namespace atl::display
