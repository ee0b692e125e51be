#include "display/vnc/zrle.h"

#include <algorithm>

#include "base/endian.h"
#include "display/vnc/spec.h"

namespace atl::display::vnc {
namespace {

constexpr u32 kMaxPalette = 16;
enum SubEncoding : u8 { kPixels = 0, kSolid = 1, kPlainRuns = 128 };

size_t count_runs(std::span<const u32> pixels) {
  size_t runs = 1;
  for (size_t i = 1; i < pixels.size(); ++i) runs += pixels[i] != pixels[i - 1];
  return runs;
}

}  // namespace

void ZrleEncoder::encode(const Surface& surface, const Rect& rect, const PixelFormat& format, int level, std::vector<u8>& out) {
  plain_.clear();
  for (u32 y = 0; y < rect.height; y += kZrleTile) {
    for (u32 x = 0; x < rect.width; x += kZrleTile) {
      encode_tile(surface, {rect.x + x, rect.y + y, std::min(kZrleTile, rect.width - x), std::min(kZrleTile, rect.height - y)}, format);
    }
  }
  const size_t length_at = out.size();
  out.resize(length_at + 4);
  stream_.compress(plain_, level, out);
  store_be<u32>(&out[length_at], static_cast<u32>(out.size() - length_at - 4));
}

void ZrleEncoder::encode_tile(const Surface& surface, const Rect& tile, const PixelFormat& format) {
  pixels_.clear();
  for (u32 y = 0; y < tile.height; ++y) {
    auto row = surface.row(tile.y + y).subspan(tile.x, tile.width);
    pixels_.insert(pixels_.end(), row.begin(), row.end());
  }
  const bool few = palette_.collect(pixels_, kMaxPalette);
  if (few && palette_.size() == 1) {
    plain_.push_back(kSolid);
    format.append_compressed(plain_, palette_.colour(0));
  } else if (few) {
    put_palette_tile(tile, format);
  } else if (count_runs(pixels_) * (format.compressed_bytes() + 1) < pixels_.size() * format.compressed_bytes()) {
    put_runs(format);
  } else {
    plain_.push_back(kPixels);
    format.append_compressed_row(plain_, pixels_);
  }
}

/// One, two or four bits a pixel, each row padded to bytes.
void ZrleEncoder::put_palette_tile(const Rect& tile, const PixelFormat& format) {
  plain_.push_back(static_cast<u8>(palette_.size()));
  format.append_compressed_row(plain_, palette_.colours());
  const unsigned bits = palette_.size() == 2 ? 1 : palette_.size() <= 4 ? 2 : 4;
  u32 last = palette_.colour(0), index = 0;
  for (u32 y = 0; y < tile.height; ++y) {
    unsigned filled = 0;
    u8 byte = 0;
    for (u32 pixel : std::span(pixels_).subspan(size_t{y} * tile.width, tile.width)) {
      if (pixel != last) index = palette_.index_of(last = pixel);
      byte = static_cast<u8>(byte << bits | index);
      if ((filled += bits) < 8) continue;
      plain_.push_back(byte);
      filled = byte = 0;
    }
    if (filled) plain_.push_back(static_cast<u8>(byte << (8 - filled)));
  }
}

/// A run's length less one, in steps of 255.
void ZrleEncoder::put_runs(const PixelFormat& format) {
  plain_.push_back(kPlainRuns);
  for (size_t i = 0; i < pixels_.size();) {
    size_t end = i + 1;
    while (end < pixels_.size() && pixels_[end] == pixels_[i]) ++end;
    format.append_compressed(plain_, pixels_[i]);
    size_t length = end - i - 1;
    for (; length >= 255; length -= 255) plain_.push_back(255);
    plain_.push_back(static_cast<u8>(length));
    i = end;
  }
}

}  // namespace atl::display::vnc
