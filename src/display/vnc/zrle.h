// The ZRLE encoding (RFC 6143, 7.7.6): tiles of 64 by 64 as one colour, a palette, runs or pixels, through one zlib stream a
// connection.
#pragma once

#include <zlib.h>

#include "display/surface.h"
#include "display/vnc/pixel_format.h"

namespace atl::display::vnc {

class ZrleEncoder {
 public:
  ZrleEncoder();
  ~ZrleEncoder();
  ZrleEncoder(const ZrleEncoder&) = delete;
  ZrleEncoder& operator=(const ZrleEncoder&) = delete;

  /// Appends the rectangle's data: its length in four bytes, then the compressed tiles.
  void encode(const Surface& surface, const Rect& rect, const PixelFormat& format, std::vector<u8>& out);

 private:
  void encode_tile(const Surface& surface, const Rect& tile, const PixelFormat& format);
  void put_palette_tile(const Rect& tile, const PixelFormat& format, std::span<const u32> palette);
  void put_runs(const PixelFormat& format);
  void compress(std::vector<u8>& out);

  z_stream stream_{};
  std::vector<u8> plain_;
  std::vector<u32> pixels_;  // of the present tile
};

}  // namespace atl::display::vnc
