#include "display/vnc/hextile.h"

#include <algorithm>

namespace atl::display::vnc {
namespace {

constexpr u32 kTile = 16, kManyColours = 64;
enum Flag : u8 { kPixels = 1, kBackground = 2, kForeground = 4, kRectangles = 8, kColoured = 16 };

}  // namespace

void HextileEncoder::encode(const Surface& surface, const Rect& rect, const PixelFormat& format, std::vector<u8>& out) {
  for (u32 y = 0; y < rect.height; y += kTile) {
    for (u32 x = 0; x < rect.width; x += kTile) {
      const Rect tile{rect.x + x, rect.y + y, std::min(kTile, rect.width - x), std::min(kTile, rect.height - y)};
      pixels_.clear();
      for (u32 row = 0; row < tile.height; ++row) {
        auto part = surface.row(tile.y + row).subspan(tile.x, tile.width);
        pixels_.insert(pixels_.end(), part.begin(), part.end());
      }
      encode_tile(tile, format, out);
    }
  }
}

void HextileEncoder::encode_tile(const Rect& tile, const PixelFormat& format, std::vector<u8>& out) {
  const size_t start = out.size(), plain = 1 + pixels_.size() * format.bytes();
  if (palette_.collect(pixels_, kManyColours)) {
    const bool mono = palette_.size() == 2;
    const u8 rectangles = palette_.size() == 1 ? 0 : mono ? kForeground | kRectangles : kRectangles | kColoured;
    out.push_back(static_cast<u8>(kBackground | rectangles));
    format.append_pixel(out, palette_.colour(0));
    if (mono) format.append_pixel(out, palette_.colour(1));
    if (rectangles) put_rectangles(tile, format, !mono, out);
    if (out.size() - start <= plain) return;
    out.resize(start);
  }
  out.push_back(kPixels);
  format.append_row(out, pixels_);
}

/// What is not background, as rectangles: each as wide as it can be, then as high. They are blanked out once told.
void HextileEncoder::put_rectangles(const Rect& tile, const PixelFormat& format, bool coloured, std::vector<u8>& out) {
  const size_t count_at = out.size();
  const u32 paper = palette_.colour(0);
  out.push_back(0);
  left_ = pixels_;
  for (u32 y = 0; y < tile.height; ++y) {
    for (u32 x = 0; x < tile.width; ++x) {
      const u32 ink = left_[y * tile.width + x];
      if (ink == paper) continue;
      const Rect part = grow(tile, x, y);
      if (coloured) format.append_pixel(out, ink);
      out.push_back(static_cast<u8>(part.x << 4 | part.y));
      out.push_back(static_cast<u8>((part.width - 1) << 4 | (part.height - 1)));
      ++out[count_at];  // at most 255: neighbours of one colour share a rectangle, and pixel 0 is background
      for (u32 row = y; row < y + part.height; ++row) std::fill_n(&left_[row * tile.width + x], part.width, paper);
    }
  }
}

Rect HextileEncoder::grow(const Rect& tile, u32 x, u32 y) const {
  auto at = [&](u32 column, u32 row) { return left_[row * tile.width + column]; };
  Rect r{x, y, 1, 1};
  while (x + r.width < tile.width && at(x + r.width, y) == at(x, y)) ++r.width;
  auto same = [&](u32 row) {
    for (u32 i = 0; i < r.width; ++i)
      if (at(x + i, row) != at(x, y)) return false;
    return true;
  };
  while (y + r.height < tile.height && same(y + r.height)) ++r.height;
  return r;
}

}  // namespace atl::display::vnc
