// ELF executables as kernels (System V ABI, "Object Files"): 32 and 64 bit, little-endian, x86.
// A PVH note (Xen's XEN_ELFNOTE_PHYS32_ENTRY, docs/misc/pvh) gives a 32-bit entry with start information; without it, an
// ELF64 file is entered in long mode with Linux boot parameters, an ELF32 file in flat protected mode.
#pragma once

#include "machine/loaders/kernel.h"

namespace atl::machine {

struct ElfSegment {
  u64 offset = 0, file_bytes = 0, memory_bytes = 0, virtual_address = 0, physical_address = 0;
};

struct ElfImage {
  static bool matches(std::span<const u8> head);
  /// Reads headers and notes. Segments lie inside the file and do not overflow.
  static Result<ElfImage> parse(const BootFile& file);
  /// Puts the segments into guest memory, the part without file contents as zeroes.
  Status load(const BootFile& file, const memory::GuestMemory& memory) const;
  u64 end() const;  // first address past all segments

  bool is64 = false;
  u64 entry = 0;  // physical
  std::optional<u64> pvh_entry;
  std::vector<ElfSegment> segments;
};

Result<BootEntry> load_elf_image(const DirectBoot& boot, const BootTarget& target);

}  // namespace atl::machine
