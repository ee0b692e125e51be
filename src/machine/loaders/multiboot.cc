#include "machine/loaders/multiboot.h"

#include <fmt/core.h>

#include "base/endian.h"
#include "base/math.h"
#include "base/strings.h"
#include "machine/loaders/elf_image.h"

namespace atl::machine {
namespace {

constexpr u32 kHeaderMagic = 0x1badb002, kBootMagic = 0x2badb002;
constexpr u32 kAddressesValid = 1 << 16;
constexpr u32 kKnownRequirements = 0x7;    // page-aligned modules, memory information, video mode
constexpr u32 kRequirementMask = 0xffff;   // of these, an unknown one forbids loading
constexpr u64 kSearchBytes = 8192;
constexpr size_t kMaxModules = 64;
constexpr std::string_view kLoaderName = "atoll";

enum InfoFlag : u32 { kHasMemory = 1, kHasCommandLine = 4, kHasModules = 8, kHasMap = 0x40, kHasLoaderName = 0x200 };

struct Info {
  u32 flags, memory_lower_kib, memory_upper_kib, boot_device, command_line, module_count, modules, symbols[4], map_bytes,
      map, drives_bytes, drives, config_table, loader_name;
};
static_assert(sizeof(Info) == 68);

struct ModuleEntry {
  u32 start, end, text, reserved;
};

struct [[gnu::packed]] MapEntry {
  u32 size;  // of the rest
  u64 base, length;
  u32 type;
};

/// Puts strings and tables one after the other into low memory, after the information structure.
class InfoArea {
 public:
  explicit InfoArea(const BootTarget& target) : target_(target) {}
  Result<u32> put(std::span<const u8> data) {
    const GuestAddr at = next_;
    if (at + data.size() > kEbdaBase) return Error(ErrorKind::Invalid, "multiboot information exceeds low memory");
    TRY(target_.memory.load(at, data));
    next_ = align_up(at + data.size(), 4);
    return static_cast<u32>(at);
  }
  Result<u32> put_text(std::string_view text) {
    std::vector<u8> data(text.begin(), text.end());
    data.push_back(0);
    return put(data);
  }

 private:
  const BootTarget& target_;
  GuestAddr next_ = kBootInfo + 0x80;
};

/// Loads by the header's address fields (section 3.1.3); gives the end of what was loaded.
Result<u64> load_by_addresses(const BootFile& kernel, const MultibootHeader& h, const BootTarget& target) {
  const u64 before = u64{h.header_address} - h.load_address;  // bytes of the image in front of the header
  if (h.load_address > h.header_address || before > h.offset) return kernel.error("multiboot header: bad addresses");
  const u64 start = h.offset - before;
  const u64 size = h.load_end ? u64{h.load_end} - h.load_address : kernel.size() - start;
  if (h.load_end && h.load_end < h.load_address) return kernel.error("multiboot header: the image ends before it begins");
  TRY(kernel.load(target.memory, start, size, h.load_address));
  const u64 end = h.load_address + size;
  if (h.bss_end <= end) return end;
  if (!target.memory.fill(end, 0, h.bss_end - end)) return kernel.error("the bss does not fit into guest memory");
  return u64{h.bss_end};
}

Result<ModuleEntry> load_module(std::string_view text, u64& next, const BootTarget& target, InfoArea& area) {
  const std::string path(text.substr(0, text.find(' ')));
  const BootFile file = TRY(BootFile::open("multiboot module", path));
  const u64 at = align_up(next, kPageSize);
  if (!range_fits(at, file.size(), target.ram.low_bytes)) return file.error("does not fit into guest memory");
  TRY(file.load(target.memory, 0, file.size(), at));
  next = at + file.size();
  return ModuleEntry{static_cast<u32>(at), static_cast<u32>(next), TRY(area.put_text(text)), 0};
}

Result<std::vector<ModuleEntry>> load_modules(const DirectBoot& boot, u64 next, const BootTarget& target, InfoArea& area) {
  std::vector<ModuleEntry> modules;
  if (boot.modules().empty()) return modules;
  for (std::string_view text : split(boot.modules(), ',')) {
    if (modules.size() == kMaxModules) return Error(ErrorKind::Invalid, "too many multiboot modules");
    modules.push_back(TRY(load_module(trim(text), next, target, area)));
  }
  return modules;
}

std::vector<u8> memory_map(const BootTarget& target) {
  std::vector<u8> map;
  for (const E820Entry& e : target.map) {
    const MapEntry entry = {sizeof(MapEntry) - 4, e.base, e.size, static_cast<u32>(e.type)};
    const u8* raw = reinterpret_cast<const u8*>(&entry);
    map.insert(map.end(), raw, raw + sizeof entry);
  }
  return map;
}

Status write_info(const DirectBoot& boot, const BootTarget& target, u64 image_end) {
  InfoArea area(target);
  const auto modules = TRY(load_modules(boot, image_end, target, area));
  const std::vector<u8> map = memory_map(target);
  Info info{};
  info.flags = kHasMemory | kHasCommandLine | kHasModules | kHasMap | kHasLoaderName;
  info.memory_lower_kib = kEbdaBase / kKiB;
  info.memory_upper_kib = static_cast<u32>((target.ram.low_bytes - kUpperMemory) / kKiB);
  info.command_line = TRY(area.put_text(fmt::format("{} {}", boot.kernel().path(), boot.command_line())));
  info.module_count = static_cast<u32>(modules.size());
  info.modules = TRY(area.put({reinterpret_cast<const u8*>(modules.data()), modules.size() * sizeof(ModuleEntry)}));
  info.map = TRY(area.put(map));
  info.map_bytes = static_cast<u32>(map.size());
  info.loader_name = TRY(area.put_text(kLoaderName));
  return target.memory.load(kBootInfo, {reinterpret_cast<const u8*>(&info), sizeof info});
}

}  // namespace

std::optional<MultibootHeader> MultibootHeader::find(std::span<const u8> head) {
  const u64 end = std::min<u64>(head.size(), kSearchBytes);
  for (u64 at = 0; at + 12 <= end; at += 4) {
    if (load_le<u32>(&head[at]) != kHeaderMagic) continue;
    const u32 flags = load_le<u32>(&head[at + 4]);
    if (kHeaderMagic + flags + load_le<u32>(&head[at + 8]) != 0) continue;
    MultibootHeader h{.offset = at, .flags = flags};
    if (flags & kAddressesValid) {
      if (at + 32 > end) continue;
      h.header_address = load_le<u32>(&head[at + 12]);
      h.load_address = load_le<u32>(&head[at + 16]);
      h.load_end = load_le<u32>(&head[at + 20]);
      h.bss_end = load_le<u32>(&head[at + 24]);
      h.entry = load_le<u32>(&head[at + 28]);
    }
    return h;
  }
  return std::nullopt;
}

Result<BootEntry> load_multiboot(const DirectBoot& boot, const MultibootHeader& header, const BootTarget& target) {
  const BootFile& kernel = boot.kernel();
  if (header.flags & kRequirementMask & ~kKnownRequirements) {
    return kernel.error(fmt::format("multiboot header asks for unknown features ({:#x})", header.flags));
  }
  BootEntry entry{.mode = BootEntry::Mode::Protected32, .eax = kBootMagic, .ebx = kBootInfo};
  u64 end = 0;
  if (header.flags & kAddressesValid) {
    end = TRY(load_by_addresses(kernel, header, target));
    entry.ip = header.entry;
  } else {
    const ElfImage image = TRY(ElfImage::parse(kernel));
    if (image.is64) return kernel.error("multiboot needs a 32-bit ELF file");
    TRY(image.load(kernel, target.memory));
    end = image.end();
    entry.ip = image.entry;
  }
  TRY(write_info(boot, target, end).context(kernel.path()));
  return entry;
}

}  // namespace atl::machine
