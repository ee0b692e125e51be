#include "display/vnc/zrle.h"

#include <algorithm>

#include "base/check.h"
#include "base/endian.h"
#include "display/vnc/spec.h"

namespace atl::display::vnc {
namespace {

constexpr size_t kMaxPalette = 16;
enum SubEncoding : u8 { kPixels = 0, kSolid = 1, kPlainRuns = 128 };

size_t count_runs(std::span<const u32> pixels) {
  size_t runs = 1;
  for (size_t i = 1; i < pixels.size(); ++i) runs += pixels[i] != pixels[i - 1];
  return runs;
}

/// The colours of a tile in order of appearance; more than kMaxPalette: none.
std::vector<u32> palette_of(std::span<const u32> pixels) {
  std::vector<u32> palette;
  for (size_t i = 0; i < pixels.size(); ++i) {
    if (i > 0 && pixels[i] == pixels[i - 1]) continue;
    if (std::ranges::find(palette, pixels[i]) != palette.end()) continue;
    if (palette.size() == kMaxPalette) return {};
    palette.push_back(pixels[i]);
  }
  return palette;
}

}  // namespace

ZrleEncoder::ZrleEncoder() { CHECK(::deflateInit(&stream_, 1) == Z_OK); }  // fails only without memory
ZrleEncoder::~ZrleEncoder() { ::deflateEnd(&stream_); }

void ZrleEncoder::encode(const Surface& surface, const Rect& rect, const PixelFormat& format, std::vector<u8>& out) {
  plain_.clear();
  for (u32 y = 0; y < rect.height; y += kTile) {
    for (u32 x = 0; x < rect.width; x += kTile) {
      encode_tile(surface, {rect.x + x, rect.y + y, std::min(kTile, rect.width - x), std::min(kTile, rect.height - y)}, format);
    }
  }
  compress(out);
}

void ZrleEncoder::encode_tile(const Surface& surface, const Rect& tile, const PixelFormat& format) {
  pixels_.clear();
  for (u32 y = 0; y < tile.height; ++y) {
    auto row = surface.row(tile.y + y).subspan(tile.x, tile.width);
    pixels_.insert(pixels_.end(), row.begin(), row.end());
  }
  const std::vector<u32> palette = palette_of(pixels_);
  if (palette.size() == 1) {
    plain_.push_back(kSolid);
    format.append_compressed(plain_, palette[0]);
  } else if (!palette.empty()) {
    put_palette_tile(tile, format, palette);
  } else if (count_runs(pixels_) * (format.compressed_bytes() + 1) < pixels_.size() * format.compressed_bytes()) {
    put_runs(format);
  } else {
    plain_.push_back(kPixels);
    for (u32 pixel : pixels_) format.append_compressed(plain_, pixel);
  }
}

/// One, two or four bits a pixel, each row padded to bytes.
void ZrleEncoder::put_palette_tile(const Rect& tile, const PixelFormat& format, std::span<const u32> palette) {
  plain_.push_back(static_cast<u8>(palette.size()));
  for (u32 pixel : palette) format.append_compressed(plain_, pixel);
  const unsigned bits = palette.size() == 2 ? 1 : palette.size() <= 4 ? 2 : 4;
  for (u32 y = 0; y < tile.height; ++y) {
    unsigned filled = 0;
    u8 byte = 0;
    for (u32 x = 0; x < tile.width; ++x) {
      const auto index = std::ranges::find(palette, pixels_[size_t{y} * tile.width + x]) - palette.begin();
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

void ZrleEncoder::compress(std::vector<u8>& out) {
  const size_t length_at = out.size();
  out.resize(length_at + 4);
  stream_.next_in = plain_.data();
  stream_.avail_in = static_cast<uInt>(plain_.size());
  do {
    const size_t at = out.size();
    out.resize(at + 16384);
    stream_.next_out = &out[at];
    stream_.avail_out = 16384;
    ::deflate(&stream_, Z_SYNC_FLUSH);
    out.resize(out.size() - stream_.avail_out);
  } while (stream_.avail_out == 0);
  store_be<u32>(&out[length_at], static_cast<u32>(out.size() - length_at - 4));
}

}  // namespace atl::display::vnc
