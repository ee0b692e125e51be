#include "display/edid.h"

#include <algorithm>
#include <numeric>
#include <string_view>

#include "base/endian.h"

namespace atl::display {
namespace {

constexpr u32 kDpi = 96, kRate = 60;
constexpr u32 kMaxPixels = 4095;   // twelve bits
constexpr u32 kMinPixels = 64;

/// Section 3.10.2: the timing with the least blanking that divides well, and the size in millimetres.
void put_timing(u8* d, u32 width, u32 height) {
  const u32 hblank = std::min((width * 35 / 100 + 7) / 8 * 8, kMaxPixels), vblank = std::min(height * 35 / 1000 + 5, kMaxPixels);
  const u32 hfront = hblank / 4, hsync = hblank / 8, vfront = 5, vsync = 5;
  const u32 clock = std::min<u32>(static_cast<u32>(u64{width + hblank} * (height + vblank) * kRate / 10000), 0xffff);
  const u32 mm_width = width * 254 / 10 / kDpi, mm_height = height * 254 / 10 / kDpi;
  store_le<u16>(d, static_cast<u16>(clock));
  d[2] = static_cast<u8>(width);
  d[3] = static_cast<u8>(hblank);
  d[4] = static_cast<u8>((width >> 8 << 4) | hblank >> 8);
  d[5] = static_cast<u8>(height);
  d[6] = static_cast<u8>(vblank);
  d[7] = static_cast<u8>((height >> 8 << 4) | vblank >> 8);
  d[8] = static_cast<u8>(hfront);
  d[9] = static_cast<u8>(hsync);
  d[10] = static_cast<u8>((vfront & 15) << 4 | (vsync & 15));
  d[11] = static_cast<u8>((hfront >> 8 & 3) << 6 | (hsync >> 8 & 3) << 4);
  d[12] = static_cast<u8>(mm_width);
  d[13] = static_cast<u8>(mm_height);
  d[14] = static_cast<u8>((mm_width >> 8 << 4) | mm_height >> 8);
  d[17] = 0x18;  // digital, separate sync
}

/// A descriptor of text, or of other bytes (3.10.3).
void put_descriptor(u8* d, u8 tag, std::string_view text) {
  std::fill_n(d, 18, u8{0});
  d[3] = tag;
  std::fill_n(d + 5, 13, u8{' '});
  std::copy_n(text.begin(), std::min<size_t>(text.size(), 12), d + 5);
  d[5 + std::min<size_t>(text.size(), 12)] = '\n';
}

void put_range(u8* d) {
  std::fill_n(d, 18, u8{0});
  d[3] = 0xfd;
  const u8 limits[] = {50, 125, 30, 160, 0xff};  // vertical and horizontal rates, pixel clock
  std::copy(std::begin(limits), std::end(limits), d + 5);
  d[10] = 1;
  d[11] = '\n';
  std::fill_n(d + 12, 6, u8{' '});
}

/// Width, aspect ratio and rate in two bytes (3.9).
void put_standard_timings(u8* d) {
  constexpr u32 kSizes[][2] = {{1920, 3}, {1680, 0}, {1600, 1}, {1440, 0}, {1280, 2}, {1280, 1}, {1280, 3}, {1024, 1}};
  for (auto [width, ratio] : kSizes) {
    *d++ = static_cast<u8>(width / 8 - 31);
    *d++ = static_cast<u8>(ratio << 6);
  }
}

}  // namespace

std::array<u8, kEdidBytes> make_edid(u32 width, u32 height) {
  width = std::clamp(width, kMinPixels, kMaxPixels);
  height = std::clamp(height, kMinPixels, kMaxPixels);
  std::array<u8, kEdidBytes> e{};
  std::fill_n(e.begin() + 1, 6, u8{0xff});
  e[8] = ('A' - '@') << 2;           // "ATL": letters of five bits
  e[8] |= ('T' - '@') >> 3;
  e[9] = static_cast<u8>(('T' - '@') << 5 | ('L' - '@'));
  e[10] = 1;
  e[17] = 2026 - 1990 - 0;           // model year
  e[18] = 1;
  e[19] = 4;
  e[20] = 0xa5;                      // digital, 8 bits a colour, DisplayPort
  e[21] = static_cast<u8>(width * 254 / 100 / kDpi);
  e[22] = static_cast<u8>(height * 254 / 100 / kDpi);
  e[23] = 120;                       // gamma 2.2
  e[24] = 0x06;                      // sRGB; the first timing is the preferred one
  const u8 srgb[] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
  std::copy(std::begin(srgb), std::end(srgb), e.begin() + 25);
  e[35] = 0x21;                      // 640x480, 800x600
  e[36] = 0x08;                      // 1024x768
  put_standard_timings(&e[38]);
  put_timing(&e[54], width, height);
  put_range(&e[72]);
  put_descriptor(&e[90], 0xfc, "Atoll");
  put_descriptor(&e[108], 0xff, "0001");
  e[127] = static_cast<u8>(256 - std::accumulate(e.begin(), e.end() - 1, 0u) % 256);
  return e;
}

}  // namespace atl::display
