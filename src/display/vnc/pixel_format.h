// How a client wants its pixels (RFC 6143, 7.4), and turning ours (0x00rrggbb) into that.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/types.h"

namespace atl::display::vnc {

struct PixelFormat {
  static constexpr size_t kWireBytes = 16;

  u8 bits = 32, depth = 24;
  bool big_endian = false, true_colour = true;
  u16 red_max = 255, green_max = 255, blue_max = 255;
  u8 red_shift = 16, green_shift = 8, blue_shift = 0;

  /// nullopt for what cannot be served: odd sizes, colour maps, shifts outside the pixel.
  static std::optional<PixelFormat> parse(std::span<const u8, kWireBytes> wire);
  void append_to(std::vector<u8>& out) const;

  u32 bytes() const { return bits / 8u; }
  /// Of a compressed pixel in ZRLE (7.7.5): three bytes where all colours lie in the low or high three of four.
  u32 compressed_bytes() const;
  /// Our pixel as the client's value.
  u32 value(u32 pixel) const {
    const u32 r = (pixel >> 16 & 255) * red_max / 255, g = (pixel >> 8 & 255) * green_max / 255, b = (pixel & 255) * blue_max / 255;
    return r << red_shift | g << green_shift | b << blue_shift;
  }
  void append_pixel(std::vector<u8>& out, u32 pixel) const { append_value(out, value(pixel), 0, bytes()); }
  void append_compressed(std::vector<u8>& out, u32 pixel) const;
  /// Many at once, as append_pixel() and append_compressed() do one.
  void append_row(std::vector<u8>& out, std::span<const u32> pixels) const;
  void append_compressed_row(std::vector<u8>& out, std::span<const u32> pixels) const;

 private:
  /// Whether the viewer wants pixels as they lie in our memory.
  bool is_ours() const;
  void append_value(std::vector<u8>& out, u32 value, u32 skip, u32 count) const;
};

}  // namespace atl::display::vnc
