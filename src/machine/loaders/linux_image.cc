#include "machine/loaders/linux_image.h"

#include <array>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/math.h"

namespace atl::machine {
namespace {

// Offsets in the boot sector, and equally in the zero page (boot.rst, "The Real-Mode Kernel Header").
enum Offset : u64 {
  kRsdpAddress = 0x070, kE820Count = 0x1e8, kSetupSects = 0x1f1, kSysSize = 0x1f4, kBootFlag = 0x1fe, kHeaderLength = 0x201,
  kMagic = 0x202, kVersion = 0x206, kTypeOfLoader = 0x210, kLoadFlags = 0x211, kCode32Start = 0x214,
  kRamdiskImage = 0x218, kRamdiskSize = 0x21c, kHeapEnd = 0x224, kCmdLinePtr = 0x228, kInitrdAddrMax = 0x22c,
  kXloadFlags = 0x236, kCmdlineSize = 0x238, kPrefAddress = 0x258, kInitSize = 0x260, kE820Table = 0x2d0,
};
constexpr u32 kHdrS = 0x53726448;
constexpr u8 kLoadedHigh = 1, kCanUseHeap = 0x80;
constexpr u16 kKernel64 = 1;           // xloadflags
constexpr u64 kEntry64Offset = 0x200;
constexpr u8 kUnknownLoader = 0xff;
constexpr u64 kMinHeader = 0x230;
constexpr size_t kMaxE820 = 128;
constexpr u64 kOldInitrdLimit = 0x38000000, kOldCommandLine = 255;

template <class T>
T field(std::span<const u8> head, u64 offset) {
  return offset + sizeof(T) <= head.size() ? load_le<T>(head.data() + offset) : T{0};
}

}  // namespace

bool LinuxHeader::matches(std::span<const u8> head) {
  return field<u16>(head, kBootFlag) == 0xaa55 && field<u32>(head, kMagic) == kHdrS;
}

Result<LinuxHeader> LinuxHeader::parse(const BootFile& file, std::span<const u8> head) {
  LinuxHeader h;
  h.version = field<u16>(head, kVersion);
  if (h.version < 0x0200 || head.size() < kMinHeader) return file.error("truncated or very old Linux header");
  if (!(field<u8>(head, kLoadFlags) & kLoadedHigh)) return file.error("zImage kernels (loaded low) are not supported");
  const u8 sectors = field<u8>(head, kSetupSects);
  h.setup_bytes = (u64{sectors ? sectors : u8{4}} + 1) * 512;
  if (h.setup_bytes >= file.size()) {
    return file.error(fmt::format("truncated: the header announces {} bytes of setup code", h.setup_bytes));
  }
  // In units of 16 bytes; before 2.04 the field has 16 bits and is not reliable.
  const u64 announced = h.version >= 0x0204 ? u64{field<u32>(head, kSysSize)} * 16 : 0;
  if (announced > align_up(file.size() - h.setup_bytes, 16)) {
    return file.error(fmt::format("truncated: the header announces {} bytes of kernel, {} are there", announced,
                                  file.size() - h.setup_bytes));
  }
  h.initrd_limit = h.version >= 0x0203 ? u64{field<u32>(head, kInitrdAddrMax)} + 1 : kOldInitrdLimit;
  h.command_line_limit = h.version >= 0x0206 ? field<u32>(head, kCmdlineSize) : kOldCommandLine;
  h.entry64 = h.version >= 0x020c && field<u16>(head, kXloadFlags) & kKernel64;
  h.runtime_end = h.load_address + (file.size() - h.setup_bytes);
  if (h.version >= 0x020a) {
    // The kernel unpacks itself at its preferred address, or above its load address.
    const u64 unpack = std::max(field<u64>(head, kPrefAddress), h.load_address);
    const auto end = checked_add(unpack, field<u32>(head, kInitSize));
    if (!end) return file.error("preferred address and size in the header overflow");
    h.runtime_end = std::max(h.runtime_end, *end);
  }
  const u64 end = std::min<u64>(head.size(), kMagic + field<u8>(head, kHeaderLength));
  if (end > kSetupSects) h.raw.assign(head.begin() + kSetupSects, head.begin() + static_cast<std::ptrdiff_t>(end));
  return h;
}

Result<GuestAddr> place_initrd(const BootFile& initrd, const BootTarget& target, u64 limit, u64 floor) {
  limit = std::min(limit, target.ram.low_bytes);
  const u64 size = initrd.size();
  const GuestAddr at = size <= limit ? align_down(limit - size, kPageSize) : 0;
  if (size > limit || at < floor) {
    const u64 room = limit > floor ? limit - floor : 0;
    return initrd.error(fmt::format("{} bytes do not fit into guest memory: there is room for {}", size, room));
  }
  TRY(initrd.load(target.memory, 0, size, at));
  return at;
}

Status write_command_line(const DirectBoot& boot, const BootTarget& target, u64 limit) {
  const std::string& line = boot.command_line();
  limit = std::min(limit, kMaxCommandLineBytes - 1);
  if (line.size() > limit) {
    return Error(ErrorKind::Invalid, fmt::format("kernel command line: {} bytes, but {} takes at most {}", line.size(),
                                                 boot.kernel().path(), limit));
  }
  return target.memory.load(kBootCommandLine, {reinterpret_cast<const u8*>(line.c_str()), line.size() + 1});
}

Status write_zero_page(const BootTarget& target, const ZeroPage& in) {
  std::array<u8, kPageSize> page{};
  std::copy(in.setup_header.begin(), in.setup_header.end(), page.begin() + kSetupSects);
  page[kTypeOfLoader] = kUnknownLoader;
  page[kLoadFlags] |= kCanUseHeap | kLoadedHigh;
  store_le<u16>(&page[kHeapEnd], 0xfe00);
  store_le(&page[kCmdLinePtr], static_cast<u32>(kBootCommandLine));
  store_le(&page[kRamdiskImage], static_cast<u32>(in.initrd));
  store_le(&page[kRamdiskSize], static_cast<u32>(in.initrd_bytes));
  store_le<u64>(&page[kRsdpAddress], target.rsdp);
  const size_t count = std::min(target.map.size(), kMaxE820);
  page[kE820Count] = static_cast<u8>(count);
  for (size_t i = 0; i < count; ++i) {
    u8* entry = &page[kE820Table + i * 20];
    store_le(entry, target.map[i].base);
    store_le(entry + 8, target.map[i].size);
    store_le(entry + 16, static_cast<u32>(target.map[i].type));
  }
  return target.memory.load(kBootInfo, page);
}

Result<BootEntry> load_linux_image(const DirectBoot& boot, std::span<const u8> head, const BootTarget& target) {
  const BootFile& kernel = boot.kernel();
  const LinuxHeader header = TRY(LinuxHeader::parse(kernel, head));
  const u64 image_bytes = kernel.size() - header.setup_bytes;
  const bool fits = header.runtime_end <= target.ram.low_bytes;
  if (!fits) {  // its own affair, as on a real machine; some come up all the same
    log_warning("{}: needs {} MiB of guest memory to start, {} MiB are there", kernel.path(),
                align_up(header.runtime_end, kMiB) / kMiB, target.ram.low_bytes / kMiB);
  }
  TRY(kernel.load(target.memory, header.setup_bytes, image_bytes, header.load_address));
  ZeroPage page{.setup_header = header.raw};
  if (boot.initrd()) {
    const GuestAddr taken = fits ? header.runtime_end : header.load_address + image_bytes;
    page.initrd = TRY(place_initrd(*boot.initrd(), target, header.initrd_limit, taken));
    page.initrd_bytes = boot.initrd()->size();
  }
  TRY(write_command_line(boot, target, header.command_line_limit));
  TRY(write_zero_page(target, page));
  if (header.entry64) {
    return BootEntry{.mode = BootEntry::Mode::Long64, .ip = header.load_address + kEntry64Offset, .rsi = kBootInfo};
  }
  return BootEntry{.mode = BootEntry::Mode::Protected32, .ip = header.load_address, .rsi = kBootInfo};
}

}  // namespace atl::machine
