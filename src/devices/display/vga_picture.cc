#include "devices/display/vga_picture.h"

#include <algorithm>
#include <utility>

#include "base/endian.h"

namespace atl::devices {
namespace {

constexpr u32 kMaxWidth = 2560, kMaxHeight = 1600;

constexpr u32 from_565(u16 v) {
  const u32 r = v >> 11, g = v >> 5 & 63, b = v & 31;
  return (r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
}
constexpr u32 from_555(u16 v) {
  const u32 r = v >> 10 & 31, g = v >> 5 & 31, b = v & 31;
  return (r << 3 | r >> 2) << 16 | (g << 3 | g >> 2) << 8 | (b << 3 | b >> 2);
}

}  // namespace

u32 VgaPicture::word(u64 at) const { return load_le<u32>(&memory_[at * 4 & (memory_.size() - 1)]); }

/// What the DAC makes of each byte, and of the four-bit values that the attribute controller's palette leads to it.
void VgaPicture::look_up_colours() {
  for (u32 i = 0; i < dac_.size(); ++i) dac_[i] = registers_.colour(static_cast<u8>(i));
  const u8 select = registers_.attribute(0x14);
  for (u8 value = 0; value < attribute_colours_.size(); ++value) {
    u8 index = registers_.attribute(value) & 63;
    if (registers_.attribute(0x10) & 0x80) index = static_cast<u8>((index & 15) | (select & 3) << 4);
    index = static_cast<u8>((index & 63) | (select & 12) << 4);
    attribute_colours_[value] = dac_[index & registers_.pixel_mask()];
  }
}

u32 VgaPicture::crtc_height() const {
  return (registers_.crtc(0x12) | (registers_.crtc(7) & 2u) << 7 | (registers_.crtc(7) & 0x40u) << 3) + 1;
}

void VgaPicture::draw(display::Surface& surface, bool blink_on) {
  look_up_colours();
  if (registers_.vbe_on()) return draw_linear(surface);
  if (!registers_.screen_on()) {
    if (surface.empty()) surface.resize(640, 480);
    for (u32 y = 0; y < surface.height(); ++y) std::ranges::fill(surface.row(y), 0u);
    return;
  }
  if (registers_.graphics_mode()) draw_graphics(surface);
  else draw_text(surface, blink_on);
}

// -- text ----------------------------------------------------------------------------------------------------------------

VgaPicture::TextGeometry VgaPicture::text_geometry() const {
  TextGeometry g;
  g.columns = std::clamp<u32>(registers_.crtc(1) + 1u, 1, 255);
  g.cell_width = registers_.sequencer(1) & 1 ? 8 : 9;
  g.cell_height = (registers_.crtc(9) & 31u) + 1;
  if (registers_.crtc(9) & 0x80) g.cell_height *= 2;
  g.rows = std::clamp<u32>(crtc_height() / g.cell_height, 1, 255);
  g.start = registers_.crtc(0xc) << 8 | registers_.crtc(0xd);
  g.pitch = registers_.crtc(0x13) * 2u;
  return g;
}

std::string VgaPicture::text() const {
  if (registers_.vbe_on() || registers_.graphics_mode()) return {};
  const TextGeometry g = text_geometry();
  std::string out;
  for (u32 row = 0; row < g.rows; ++row) {
    std::string line;
    for (u32 column = 0; column < g.columns; ++column) {
      const auto c = static_cast<char>(word(g.start + row * g.pitch + column));
      line += c >= 32 && c < 127 ? c : ' ';
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

void VgaPicture::draw_text(display::Surface& surface, bool blink_on) const {
  const TextGeometry g = text_geometry();
  const u32 width = std::min(g.columns * g.cell_width, kMaxWidth), height = std::min(g.rows * g.cell_height, kMaxHeight);
  if (surface.width() != width || surface.height() != height) surface.resize(width, height);
  for (u32 row = 0; row < height / g.cell_height; ++row)
    for (u32 column = 0; column < width / g.cell_width; ++column) draw_cell(surface, g, column, row, blink_on);
  if (blink_on) draw_cursor(surface, g);
}

/// Plane 0 holds characters, plane 1 attributes, plane 2 the fonts: 32 bytes a character, eight fonts.
void VgaPicture::draw_cell(display::Surface& surface, const TextGeometry& g, u32 column, u32 row, bool blink_on) const {
  constexpr u32 kFontStarts[] = {0x0000, 0x4000, 0x8000, 0xc000, 0x2000, 0x6000, 0xa000, 0xe000};
  const u32 cell = word(g.start + row * g.pitch + column);
  const u8 character = static_cast<u8>(cell), attribute = static_cast<u8>(cell >> 8);
  const u8 select = registers_.sequencer(3);
  const unsigned font = attribute & 8 ? (select >> 2 & 3) | (select >> 3 & 4) : (select & 3) | (select >> 2 & 4);
  const bool blinks = registers_.attribute(0x10) & 8;
  const u32 paper = colour(blinks ? attribute >> 4 & 7 : attribute >> 4);
  u32 ink = colour(attribute & 15);
  if (blinks && (attribute & 0x80) && !blink_on) ink = paper;
  const bool line_graphics = (registers_.attribute(0x10) & 4) && character >= 0xc0 && character <= 0xdf;
  const u32 scale = registers_.crtc(9) & 0x80 ? 2 : 1;
  for (u32 y = 0; y < g.cell_height; ++y) {
    const u8 bits = static_cast<u8>(word(kFontStarts[font] + character * 32u + y / scale) >> 16);
    auto out = surface.row(row * g.cell_height + y).subspan(column * g.cell_width, g.cell_width);
    for (u32 x = 0; x < g.cell_width; ++x) {
      const bool set = x < 8 ? bits >> (7 - x) & 1 : line_graphics && (bits & 1);
      out[x] = set ? ink : paper;
    }
  }
}

void VgaPicture::draw_cursor(display::Surface& surface, const TextGeometry& g) const {
  const u8 first = registers_.crtc(0xa), last = registers_.crtc(0xb);
  const u32 at = ((registers_.crtc(0xe) << 8 | registers_.crtc(0xf)) - g.start) & 0xffff;
  if ((first & 0x20) || g.pitch == 0) return;
  const u32 row = at / g.pitch, column = at % g.pitch;
  if (column >= surface.width() / g.cell_width) return;
  const u32 ink = colour(static_cast<u8>(word(g.start + at) >> 8) & 15);
  for (u32 y = first & 31u; y <= (last & 31u) && y < g.cell_height; ++y) {
    if (row * g.cell_height + y >= surface.height()) return;
    std::ranges::fill(surface.row(row * g.cell_height + y).subspan(column * g.cell_width, g.cell_width), ink);
  }
}

// -- graphics ------------------------------------------------------------------------------------------------------------

VgaPicture::Geometry VgaPicture::geometry() const {
  Geometry g;
  const bool half_rate = registers_.sequencer(1) & 8;
  g.width = (registers_.crtc(1) + 1u) * 8;
  if (registers_.graphics(5) & 0x40) g.width /= half_rate ? 1 : 2;  // 256 colours: two clocks a pixel
  g.width = std::clamp<u32>(g.width, 8, kMaxWidth);
  g.height = std::clamp<u32>(crtc_height(), 1, kMaxHeight);
  g.start = registers_.crtc(0xc) << 8 | registers_.crtc(0xd);
  g.line_bytes = registers_.crtc(0x13) * 2u;
  g.repeat = ((registers_.crtc(9) & 31u) + 1) * (registers_.crtc(9) & 0x80 ? 2 : 1);
  g.line_compare = registers_.crtc(0x18) | (registers_.crtc(7) & 0x10u) << 4 | (registers_.crtc(9) & 0x40u) << 3;
  return g;
}

void VgaPicture::draw_graphics(display::Surface& surface) const {
  const Geometry g = geometry();
  if (surface.width() != g.width || surface.height() != g.height) surface.resize(g.width, g.height);
  const bool indexed = registers_.graphics(5) & 0x40, cga = registers_.graphics(5) & 0x20;
  const bool interleaved = !(registers_.crtc(0x17) & 1);
  u32 drawn = g.height;  // the scan line of the row above
  for (u32 y = 0; y < g.height; ++y) {
    const bool below_split = y > g.line_compare;
    const u32 scan = (below_split ? y - g.line_compare - 1 : y) / (interleaved ? 1 : g.repeat);
    const u32 line = interleaved ? scan / 2 : scan;
    const u32 start = (below_split ? 0 : g.start) + line * g.line_bytes;
    auto out = surface.row(y);
    const bool again = std::exchange(drawn, scan) == scan && y != g.line_compare + 1;
    if (again) std::ranges::copy(surface.row(y - 1), out.begin());
    else if (indexed) draw_indexed_row(out, start);
    else if (cga) draw_cga_row(out, start, scan);
    else draw_planar_row(out, start + (interleaved && (scan & 1) ? 0x2000 : 0));
  }
}

/// Mode 13h and its unchained kin: a byte a pixel, four to a word.
void VgaPicture::draw_indexed_row(std::span<u32> out, u32 start) const {
  const u8 mask = registers_.pixel_mask();
  for (u32 x = 0; x < out.size(); ++x) out[x] = dac_[byte(u64{start} * 4 + x) & mask];
}

void VgaPicture::draw_planar_row(std::span<u32> out, u32 start) const {
  u32 palette[16];
  const u8 enabled = registers_.attribute(0x12) & 15;
  for (u8 i = 0; i < 16; ++i) palette[i] = colour(i & enabled);
  for (u32 x = 0; x < out.size(); ++x) {
    const u32 planes = word(start + x / 8) >> (7 - x % 8);
    out[x] = palette[(planes & 1) | (planes >> 7 & 2) | (planes >> 14 & 4) | (planes >> 21 & 8)];
  }
}

/// Modes 4 and 5: two bits a pixel, even scan lines first, odd ones 8 KiB behind; odd/even addressing puts neighbours into
/// planes 0 and 1 of one word.
void VgaPicture::draw_cga_row(std::span<u32> out, u32 start, u32 scan) const {
  for (u32 x = 0; x < out.size(); ++x) {
    const u32 pair = word(start + (scan & 1 ? 0x1000 : 0) + x / 8);
    const u8 bits = static_cast<u8>(x % 8 < 4 ? pair : pair >> 8);
    out[x] = colour(bits >> (6 - x % 4 * 2) & 3);
  }
}

void VgaPicture::draw_linear(display::Surface& surface) const {
  using R = VgaRegisters;
  const u32 width = registers_.vbe(R::kVbeXres), height = registers_.vbe(R::kVbeYres);
  const unsigned bits = registers_.vbe(R::kVbeBpp);
  if (surface.width() != width || surface.height() != height) surface.resize(width, height);
  const u64 line = bits == 4 ? registers_.vbe(R::kVbeVirtWidth) / 8 : registers_.vbe_line_bytes();
  for (u32 y = 0; y < height; ++y) {
    const u64 start = line * (y + registers_.vbe(R::kVbeYoffset));
    if (bits == 4) draw_planar_row(surface.row(y), static_cast<u32>(start + registers_.vbe(R::kVbeXoffset) / 8));
    else draw_direct_row(surface.row(y), start + u64{registers_.vbe(R::kVbeXoffset)} * ((bits + 7) / 8), bits);
  }
}

void VgaPicture::draw_direct_row(std::span<u32> out, u64 start, unsigned bits) const {
  if (bits == 32 && start % 4 == 0 && start + out.size_bytes() <= memory_.size()) {
    const auto* from = reinterpret_cast<const u32*>(&memory_[start]);
    std::transform(from, from + out.size(), out.begin(), [](u32 pixel) { return pixel & 0xffffff; });
    return;
  }
  const unsigned step = (bits + 7) / 8;
  // The memory's size is a power of two and the mode fits: only a hostile start wraps, and then by whole bytes.
  for (u32 x = 0; x < out.size(); ++x) {
    const u64 at = start + u64{x} * step;
    const u32 low = byte(at) | byte(at + 1) << 8;
    switch (bits) {
      case 8: out[x] = dac_[byte(at)]; break;
      case 15: out[x] = from_555(static_cast<u16>(low)); break;
      case 16: out[x] = from_565(static_cast<u16>(low)); break;
      default: out[x] = low | u32{byte(at + 2)} << 16; break;
    }
  }
}

}  // namespace atl::devices
