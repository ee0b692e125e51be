#include "display/vnc/pixel_format.h"

#include <bit>

#include "base/endian.h"

namespace atl::display::vnc {
namespace {

/// The colour's bits must lie inside the pixel; a maximum is a power of two less one.
bool fits(u16 max, u8 shift, u8 bits) { return max > 0 && std::has_single_bit(max + 1u) && shift + std::bit_width(max) <= bits; }

}  // namespace

std::optional<PixelFormat> PixelFormat::parse(std::span<const u8, kWireBytes> w) {
  PixelFormat f;
  f.bits = w[0];
  f.depth = w[1];
  f.big_endian = w[2];
  f.true_colour = w[3];
  f.red_max = load_be<u16>(&w[4]);
  f.green_max = load_be<u16>(&w[6]);
  f.blue_max = load_be<u16>(&w[8]);
  f.red_shift = w[10];
  f.green_shift = w[11];
  f.blue_shift = w[12];
  const bool sizes = f.bits == 8 || f.bits == 16 || f.bits == 32;
  const bool colours = fits(f.red_max, f.red_shift, f.bits) && fits(f.green_max, f.green_shift, f.bits) &&
                       fits(f.blue_max, f.blue_shift, f.bits);
  if (!sizes || !f.true_colour || !colours) return std::nullopt;
  return f;
}

void PixelFormat::append_to(std::vector<u8>& out) const {
  u8 w[kWireBytes] = {bits, depth, big_endian, true_colour};
  store_be<u16>(&w[4], red_max);
  store_be<u16>(&w[6], green_max);
  store_be<u16>(&w[8], blue_max);
  w[10] = red_shift;
  w[11] = green_shift;
  w[12] = blue_shift;
  out.insert(out.end(), w, w + kWireBytes);
}

u32 PixelFormat::compressed_bytes() const {
  if (bits != 32 || depth > 24) return bytes();
  const u32 all = u32{red_max} << red_shift | u32{green_max} << green_shift | u32{blue_max} << blue_shift;
  return (all & 0xff000000) == 0 || (all & 0x000000ff) == 0 ? 3 : 4;
}

bool PixelFormat::is_ours() const {
  return bits == 32 && !big_endian && red_max == 255 && green_max == 255 && blue_max == 255 && red_shift == 16 && green_shift == 8 &&
         blue_shift == 0;
}

void PixelFormat::append_row(std::vector<u8>& out, std::span<const u32> pixels) const {
  if (is_ours()) {
    const auto* bytes = reinterpret_cast<const u8*>(pixels.data());
    out.insert(out.end(), bytes, bytes + pixels.size_bytes());
    return;
  }
  for (u32 pixel : pixels) append_pixel(out, pixel);
}

void PixelFormat::append_compressed_row(std::vector<u8>& out, std::span<const u32> pixels) const {
  if (is_ours() && depth <= 24) {
    size_t at = out.size();
    out.resize(at + pixels.size() * 3);
    for (u32 pixel : pixels) {
      out[at++] = static_cast<u8>(pixel);
      out[at++] = static_cast<u8>(pixel >> 8);
      out[at++] = static_cast<u8>(pixel >> 16);
    }
    return;
  }
  for (u32 pixel : pixels) append_compressed(out, pixel);
}

/// Bytes from the least significant one on, or the other way round, without the one that holds no colour.
void PixelFormat::append_compressed(std::vector<u8>& out, u32 pixel) const {
  if (compressed_bytes() == bytes()) return append_pixel(out, pixel);
  const u32 all = u32{red_max} << red_shift | u32{green_max} << green_shift | u32{blue_max} << blue_shift;
  append_value(out, value(pixel), (all & 0xff000000) == 0 ? 0 : 1, 3);
}

void PixelFormat::append_value(std::vector<u8>& out, u32 value, u32 skip, u32 count) const {
  for (u32 i = 0; i < count; ++i) {
    const u32 place = skip + (big_endian ? count - 1 - i : i);
    out.push_back(static_cast<u8>(value >> 8 * place));
  }
}

}  // namespace atl::display::vnc
