#include "devices/display/ramfb.h"

#include <algorithm>

#include <fmt/core.h>

#include "base/endian.h"

namespace atl::devices {
namespace {

enum Field : size_t { kAddress = 0, kFourCc = 8, kFlags = 12, kWidth = 16, kHeight = 20, kStride = 24 };
constexpr u32 kLeast = 16, kWidest = 16000, kHighest = 12000;
constexpr u32 kBlankWidth = 640, kBlankHeight = 480;

constexpr u32 fourcc(const char (&name)[5]) {
  return static_cast<u32>(name[0] | name[1] << 8 | name[2] << 16 | name[3] << 24);
}

/// A channel of `count` bits at `low`, as 8 bits.
constexpr u32 widen(u32 value, unsigned low, unsigned count) {
  const u32 part = value >> low & ((1u << count) - 1);
  return part << (8 - count) | part >> (2 * count - 8);
}

}  // namespace

/// The kernel's drm_fourcc.h.
struct RamFb::Format {
  u32 code;
  unsigned bytes;
  u32 (*to_rgb)(u32 pixel);
};
const RamFb::Format RamFb::kFormats[] = {
    {fourcc("XR24"), 4, [](u32 pixel) { return pixel & 0xffffff; }},
    {fourcc("AR24"), 4, [](u32 pixel) { return pixel & 0xffffff; }},
    {fourcc("RG24"), 3, [](u32 pixel) { return pixel; }},
    {fourcc("RG16"), 2, [](u32 pixel) { return widen(pixel, 11, 5) << 16 | widen(pixel, 5, 6) << 8 | widen(pixel, 0, 5); }},
};

RamFb::RamFb(memory::AddressSpace& memory, display::ScreenList& screens, std::string id) : memory_(memory), screens_(screens) {
  screens_.add(*this, std::move(id));
}

/// All numbers are big-endian; a stride of 0 means that rows follow each other. Nothing if there is no such picture.
std::optional<RamFb::Picture> RamFb::parse(std::span<const u8> file) {
  auto word = [&](size_t at) { return load_be<u32>(&file[at]); };
  Picture picture{.base = load_be<u64>(&file[kAddress]), .width = word(kWidth), .height = word(kHeight)};
  const auto format = std::ranges::find(kFormats, word(kFourCc), &Format::code);
  if (format == std::end(kFormats)) return std::nullopt;
  if (picture.width < kLeast || picture.width > kWidest || picture.height < kLeast || picture.height > kHighest) return std::nullopt;
  const u32 least = picture.width * format->bytes, stride = word(kStride);
  if (stride != 0 && stride < least) return std::nullopt;
  picture.format = format;
  picture.row_bytes = stride ? stride : least;
  std::ranges::copy(file, picture.file.begin());
  return picture;
}

void RamFb::set_picture(std::optional<Picture> picture) {
  picture_ = picture ? std::make_shared<const Picture>(*std::move(picture)) : nullptr;
}

FwCfg::LiveFile RamFb::file() {
  return {.size_bytes = kFileBytes,
          .read =
              [this] {
                const auto picture = picture_.load();
                return picture ? std::vector<u8>(picture->file.begin(), picture->file.end()) : std::vector<u8>(kFileBytes);
              },
          .written =
              [this](std::span<const u8> data) {
                if (auto picture = parse(data)) set_picture(std::move(picture));
              }};
}

void RamFb::visit(Archive& archive) {
  const auto picture = picture_.load();
  std::array<u8, kFileBytes> file = picture ? picture->file : std::array<u8, kFileBytes>{};
  archive.bytes(1, "file", file);
  if (archive.loading()) set_picture(parse(file));
}

std::string RamFb::describe() const {
  const auto picture = picture_.load();
  return picture ? fmt::format("{} x {} at {:#x}", picture->width, picture->height, picture->base) : "not set up";
}

/// A row that is not in the guest's memory is black.
void RamFb::draw(display::Surface& surface) {
  const auto picture = picture_.load();
  if (!picture) return surface.resize(kBlankWidth, kBlankHeight);
  surface.resize(picture->width, picture->height);
  const auto memory = memory_.guest_memory();
  const unsigned bytes = picture->format->bytes;
  std::vector<u8> row(size_t{picture->width} * bytes);
  for (u32 y = 0; y < picture->height; ++y) {
    if (!memory->read(picture->base + u64{y} * picture->row_bytes, row)) continue;
    const std::span<u32> pixels = surface.row(y);
    for (u32 x = 0; x < picture->width; ++x)
      pixels[x] = picture->format->to_rgb(static_cast<u32>(load_le_n(&row[size_t{x} * bytes], bytes)));
  }
}

}  // namespace atl::devices
