#include "machine/loaders/pvh.h"

#include "base/endian.h"

namespace atl::machine {
namespace {

constexpr u32 kMagic = 0x336ec578, kVersion = 1;
constexpr GuestAddr kModuleList = kBootInfo + 0x40;
constexpr GuestAddr kMemoryMap = kBootInfo + 0x80;
constexpr size_t kMaxMapEntries = 64;

struct StartInfo {
  u32 magic, version, flags, module_count;
  u64 modules, command_line, rsdp, memory_map;
  u32 memory_map_entries, reserved;
};
static_assert(sizeof(StartInfo) == 56);

struct ModuleEntry {
  u64 base, size, command_line, reserved;
};

struct MapEntry {
  u64 base, size;
  u32 type, reserved;
};

}  // namespace

Status write_pvh_info(const DirectBoot& boot, const BootTarget& target, const PvhModule& initrd) {
  const u32 entries = static_cast<u32>(std::min(target.map.size(), kMaxMapEntries));
  const StartInfo info = {kMagic, kVersion, 0, initrd.size ? 1u : 0u, kModuleList, kBootCommandLine, target.rsdp,
                          kMemoryMap, entries, 0};
  const ModuleEntry module = {initrd.base, initrd.size, 0, 0};
  bool ok = target.memory.write_object(kBootInfo, info) && target.memory.write_object(kModuleList, module);
  for (u32 i = 0; ok && i < entries; ++i) {
    const E820Entry& e = target.map[i];
    ok = target.memory.write_object(kMemoryMap + i * sizeof(MapEntry),
                                    MapEntry{e.base, e.size, static_cast<u32>(e.type), 0});
  }
  if (!ok) return boot.kernel().error("no guest memory for the start information");
  return {};
}

}  // namespace atl::machine
