#include "devices/pci/option_rom.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/fd.h"

namespace atl::devices {
namespace {

constexpr u64 kMaxRom = 16 * kMiB;
constexpr size_t kUnit = 512;
constexpr size_t kPointer = 0x18;                                      // in the header: offset of the PCIR structure
constexpr size_t kVendor = 4, kDevice = 6, kLength = 0x10, kCode = 0x14, kIndicator = 0x15;  // in that structure
constexpr size_t kStructureBytes = 0x18;
constexpr u8 kPcAt = 0, kLast = 0x80;
constexpr size_t kSpare = 6;                                           // a byte of the header that the checksum may use

/// The image at the start of `rom`: its PCIR structure, or 0.
size_t structure_of(std::span<const u8> rom) {
  if (rom.size() < kUnit || rom[0] != 0x55 || rom[1] != 0xaa) return 0;
  const size_t at = load_le<u16>(&rom[kPointer]);
  if (at + kStructureBytes > rom.size() || std::memcmp(&rom[at], "PCIR", 4) != 0) return 0;
  return at;
}

void patch_image(std::span<u8> image, size_t at, u16 vendor, u16 device) {
  u8 change = 0;
  auto put = [&](size_t offset, u8 value) {
    change = static_cast<u8>(change + value - image[offset]);
    image[offset] = value;
  };
  put(at + kVendor, static_cast<u8>(vendor));
  put(at + kVendor + 1, static_cast<u8>(vendor >> 8));
  put(at + kDevice, static_cast<u8>(device));
  put(at + kDevice + 1, static_cast<u8>(device >> 8));
  if (image[at + kCode] == kPcAt) image[kSpare] = static_cast<u8>(image[kSpare] - change);
}

}  // namespace

bool patch_option_rom(std::span<u8> rom, u16 vendor, u16 device) {
  bool found = false;
  while (const size_t at = structure_of(rom)) {
    found = true;
    patch_image(rom, at, vendor, device);
    const size_t length = load_le<u16>(&rom[at + kLength]) * kUnit;
    if ((rom[at + kIndicator] & kLast) || length == 0 || length >= rom.size()) break;
    rom = rom.subspan(length);
  }
  return found;
}

Status add_option_rom(PciFunction& function, const std::string& path) {
  std::string file = TRY(read_file(path, kMaxRom).context("option ROM"));
  std::span<u8> image(reinterpret_cast<u8*>(file.data()), file.size());
  if (!patch_option_rom(image, function.word(pci::kVendorId), function.word(pci::kDeviceId))) {
    return Error(ErrorKind::Invalid, fmt::format("{}: not an option ROM (no 55 AA header with a PCIR structure)", path));
  }
  const u64 size = std::max<u64>(std::bit_ceil(file.size()), 4 * kKiB);
  auto block = TRY(memory::RamBlock::create(function.name() + ".rom", size, {}));
  std::ranges::copy(image, block->data());
  function.set_rom(std::move(block));
  return {};
}

}  // namespace atl::devices
