#include "display/vnc/tight.h"

#include <turbojpeg.h>

namespace atl::display::vnc {
namespace {

enum Control : u8 { kFill = 0x80, kJpeg = 0x90, kWithFilter = 0x40 };   // bits 4 and 5: the stream
enum Filter : u8 { kPaletteFilter = 1 };
enum Stream : u8 { kFullStream = 0, kMonoStream = 1, kIndexedStream = 2 };
constexpr size_t kMinToCompress = 12;
constexpr u32 kMinForJpeg = 256;   // pixels

/// Pixels are three bytes, red first, whatever the order in the viewer's format.
bool packs_to_three(const PixelFormat& f) {
  return f.bits == 32 && f.depth == 24 && f.red_max == 255 && f.green_max == 255 && f.blue_max == 255;
}

void put_pixels(std::vector<u8>& out, const PixelFormat& format, std::span<const u32> pixels) {
  if (!packs_to_three(format)) return format.append_row(out, pixels);
  size_t at = out.size();
  out.resize(at + pixels.size() * 3);
  for (u32 pixel : pixels) {
    out[at++] = static_cast<u8>(pixel >> 16);
    out[at++] = static_cast<u8>(pixel >> 8);
    out[at++] = static_cast<u8>(pixel);
  }
}

/// Seven bits a byte, the lowest first; at most 22 bits.
void put_compact(std::vector<u8>& out, size_t length) {
  for (int i = 0; i < 2 && length > 0x7f; ++i, length >>= 7) out.push_back(static_cast<u8>(length | 0x80));
  out.push_back(static_cast<u8>(length));
}

}  // namespace

TightEncoder::~TightEncoder() {
  if (jpeg_) tjDestroy(jpeg_);
}

void TightEncoder::encode(const Surface& surface, const Rect& rect, const PixelFormat& format, const Style& style,
                          std::vector<u8>& out) {
  pixels_.clear();
  for (u32 y = 0; y < rect.height; ++y) {
    auto row = surface.row(rect.y + y).subspan(rect.x, rect.width);
    pixels_.insert(pixels_.end(), row.begin(), row.end());
  }
  const bool few = palette_.collect(pixels_, Palette::kMax);
  if (few && palette_.size() == 1) return fill(format, palette_.colour(0), out);
  if (few && palette_.size() == 2) return two_colours(rect, format, style.level, out);
  if (few && palette_.size() * 2 < pixels_.size() && format.bytes() > 1) return indexed(format, style.level, out);
  if (style.quality && pixels_.size() >= kMinForJpeg && packs_to_three(format) && jpeg(surface, rect, *style.quality, out)) return;
  full_colour(format, style.level, out);
}

void TightEncoder::fill(const PixelFormat& format, u32 pixel, std::vector<u8>& out) const {
  out.push_back(kFill);
  put_pixels(out, format, {&pixel, 1});
}

void TightEncoder::begin_palette(u8 stream, const PixelFormat& format, std::vector<u8>& out) const {
  out.insert(out.end(), {static_cast<u8>(kWithFilter | stream << 4), kPaletteFilter, static_cast<u8>(palette_.size() - 1)});
  put_pixels(out, format, palette_.colours());
}

/// A bit a pixel, rows padded to bytes.
void TightEncoder::two_colours(const Rect& rect, const PixelFormat& format, int level, std::vector<u8>& out) {
  begin_palette(kMonoStream, format, out);
  plain_.assign(size_t{(rect.width + 7) / 8} * rect.height, 0);
  const u32 paper = palette_.colour(0);
  u8* row = plain_.data();
  for (u32 y = 0; y < rect.height; ++y, row += (rect.width + 7) / 8)
    for (u32 x = 0; x < rect.width; ++x)
      if (pixels_[size_t{y} * rect.width + x] != paper) row[x / 8] |= static_cast<u8>(0x80 >> x % 8);
  put_data(kMonoStream, level, out);
}

void TightEncoder::indexed(const PixelFormat& format, int level, std::vector<u8>& out) {
  begin_palette(kIndexedStream, format, out);
  plain_.resize(pixels_.size());
  u32 last = pixels_[0];
  u8 index = 0;  // the first pixel has the first colour
  for (size_t i = 0; i < pixels_.size(); ++i) {
    if (pixels_[i] != last) {
      last = pixels_[i];
      index = static_cast<u8>(palette_.index_of(last));
    }
    plain_[i] = index;
  }
  put_data(kIndexedStream, level, out);
}

void TightEncoder::full_colour(const PixelFormat& format, int level, std::vector<u8>& out) {
  out.push_back(kFullStream << 4);
  plain_.clear();
  put_pixels(plain_, format, pixels_);
  put_data(kFullStream, level, out);
}

/// A few bytes go as they are; others with their compressed length.
void TightEncoder::put_data(u8 stream, int level, std::vector<u8>& out) {
  if (plain_.size() < kMinToCompress) {
    out.insert(out.end(), plain_.begin(), plain_.end());
    return;
  }
  packed_.clear();
  streams_[stream].compress(plain_, level, packed_);
  put_compact(out, packed_.size());
  out.insert(out.end(), packed_.begin(), packed_.end());
}

bool TightEncoder::jpeg(const Surface& surface, const Rect& rect, u8 quality, std::vector<u8>& out) {
  if (!jpeg_ && !(jpeg_ = tjInitCompress())) return false;
  unsigned char* data = nullptr;
  unsigned long size = 0;
  const auto* pixels = reinterpret_cast<const unsigned char*>(surface.row(rect.y).data() + rect.x);
  const int percent = 15 + quality * 9, colours = quality >= 7 ? TJSAMP_444 : TJSAMP_420;
  const bool made = tjCompress2(jpeg_, pixels, static_cast<int>(rect.width), static_cast<int>(surface.width() * sizeof(u32)),
                                static_cast<int>(rect.height), TJPF_BGRX, &data, &size, colours, percent, TJFLAG_FASTDCT) == 0;
  if (made) {
    out.push_back(kJpeg);
    put_compact(out, size);
    out.insert(out.end(), data, data + size);
  }
  tjFree(data);
  return made;
}

}  // namespace atl::display::vnc
