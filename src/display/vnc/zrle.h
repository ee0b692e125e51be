// The ZRLE encoding (RFC 6143, 7.7.6): tiles of 64 by 64 as one colour, a palette, runs or pixels, through one zlib stream a
// connection.
#pragma once

#include "display/surface.h"
#include "display/vnc/deflater.h"
#include "display/vnc/palette.h"
#include "display/vnc/pixel_format.h"

namespace atl::display::vnc {

class ZrleEncoder {
 public:
  /// Appends the rectangle's data: its length in four bytes, then the compressed tiles. `level`: zlib's.
  void encode(const Surface& surface, const Rect& rect, const PixelFormat& format, int level, std::vector<u8>& out);

 private:
  void encode_tile(const Surface& surface, const Rect& tile, const PixelFormat& format);
  void put_palette_tile(const Rect& tile, const PixelFormat& format);
  void put_runs(const PixelFormat& format);

  Deflater stream_;
  Palette palette_;
  std::vector<u8> plain_;
  std::vector<u32> pixels_;  // of the present tile
};

}  // namespace atl::display::vnc
