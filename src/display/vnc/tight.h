// The Tight encoding (community protocol description, "Tight Encoding"): fill, palettes and full colour through four zlib
// streams, JPEG where a quality is asked for. Missing: the gradient filter, PNG.
#pragma once

#include <optional>

#include "display/surface.h"
#include "display/vnc/deflater.h"
#include "display/vnc/palette.h"
#include "display/vnc/pixel_format.h"

namespace atl::display::vnc {

class TightEncoder {
 public:
  static constexpr u32 kMaxWidth = 2048;   // of a rectangle
  ~TightEncoder();

  struct Style {
    int level = 2;                 // zlib's, from the viewer's wish
    std::optional<u8> quality;     // 0 to 9: JPEG for pieces with many colours
  };
  /// Appends the data of one rectangle.
  void encode(const Surface& surface, const Rect& rect, const PixelFormat& format, const Style& style, std::vector<u8>& out);

 private:
  void fill(const PixelFormat& format, u32 pixel, std::vector<u8>& out) const;
  void two_colours(const Rect& rect, const PixelFormat& format, int level, std::vector<u8>& out);
  void indexed(const PixelFormat& format, int level, std::vector<u8>& out);
  void full_colour(const PixelFormat& format, int level, std::vector<u8>& out);
  bool jpeg(const Surface& surface, const Rect& rect, u8 quality, std::vector<u8>& out);
  void begin_palette(u8 stream, const PixelFormat& format, std::vector<u8>& out) const;
  void put_data(u8 stream, int level, std::vector<u8>& out);

  Deflater streams_[3];
  void* jpeg_ = nullptr;      // turbojpeg's handle
  Palette palette_;
  std::vector<u32> pixels_;   // of the present rectangle
  std::vector<u8> plain_, packed_;
};

}  // namespace atl::display::vnc
