#include "display/image_file.h"

#include <zlib.h>

#include <string_view>

#include <fmt/format.h>

#include "base/check.h"

namespace atl::display {
namespace {

void append_pixels(std::vector<u8>& out, std::span<const u32> row) {
  for (u32 pixel : row) {
    out.push_back(static_cast<u8>(pixel >> 16));
    out.push_back(static_cast<u8>(pixel >> 8));
    out.push_back(static_cast<u8>(pixel));
  }
}

void append_be32(std::vector<u8>& out, u32 value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<u8>(value >> shift));
}

/// Length, type, data, CRC over the last two.
void append_chunk(std::vector<u8>& out, std::string_view type, const std::vector<u8>& data) {
  append_be32(out, static_cast<u32>(data.size()));
  const size_t start = out.size();
  out.insert(out.end(), type.begin(), type.end());
  out.insert(out.end(), data.begin(), data.end());
  append_be32(out, static_cast<u32>(::crc32(0, out.data() + start, static_cast<uInt>(out.size() - start))));
}

std::vector<u8> compressed_rows(const Surface& surface) {
  constexpr u8 kNoFilter = 0;
  std::vector<u8> raw;
  raw.reserve((size_t{surface.width()} * 3 + 1) * surface.height());
  for (u32 y = 0; y < surface.height(); ++y) {
    raw.push_back(kNoFilter);
    append_pixels(raw, surface.row(y));
  }
  uLongf size = ::compressBound(raw.size());
  std::vector<u8> out(size);
  CHECK(::compress(out.data(), &size, raw.data(), raw.size()) == Z_OK);  // the buffer is large enough
  out.resize(size);
  return out;
}

}  // namespace

std::vector<u8> to_ppm(const Surface& surface) {
  const std::string head = fmt::format("P6\n{} {}\n255\n", surface.width(), surface.height());
  std::vector<u8> out(head.begin(), head.end());
  append_pixels(out, surface.pixels());
  return out;
}

std::vector<u8> to_png(const Surface& surface) {
  std::vector<u8> out = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  std::vector<u8> header;
  append_be32(header, surface.width());
  append_be32(header, surface.height());
  header.insert(header.end(), {8, 2, 0, 0, 0});  // bits a channel, RGB, deflate, adaptive filters, not interlaced
  append_chunk(out, "IHDR", header);
  append_chunk(out, "IDAT", compressed_rows(surface));
  append_chunk(out, "IEND", {});
  return out;
}

}  // namespace atl::display
