// The Hextile encoding (RFC 6143, 7.7.4): tiles of 16 by 16 as a background with rectangles on it, or as pixels.
#pragma once

#include "display/surface.h"
#include "display/vnc/palette.h"
#include "display/vnc/pixel_format.h"

namespace atl::display::vnc {

class HextileEncoder {
 public:
  /// Appends the data of one rectangle.
  void encode(const Surface& surface, const Rect& rect, const PixelFormat& format, std::vector<u8>& out);

 private:
  void encode_tile(const Rect& tile, const PixelFormat& format, std::vector<u8>& out);
  void put_rectangles(const Rect& tile, const PixelFormat& format, bool coloured, std::vector<u8>& out);
  Rect grow(const Rect& tile, u32 x, u32 y) const;

  Palette palette_;
  std::vector<u32> pixels_;   // of the present tile
  std::vector<u32> left_;     // the same, without what rectangles hold already
};

}  // namespace atl::display::vnc
