// Multiboot 1 images with modules (Multiboot Specification 0.6.96).
// Supported: ELF32 images and those with the address fields (flag 16), modules with their own command lines, memory size,
//   memory map, loader name. Missing: video modes, drives, symbol tables.
#pragma once

#include "machine/loaders/kernel.h"

namespace atl::machine {

struct MultibootHeader {
  /// Finds the header in the first 8 KiB (section 3.1); nullopt if there is none.
  static std::optional<MultibootHeader> find(std::span<const u8> head);

  u64 offset = 0;  // of the header in the file
  u32 flags = 0;
  u32 header_address = 0, load_address = 0, load_end = 0, bss_end = 0, entry = 0;  // with kAddressesValid
};

Result<BootEntry> load_multiboot(const DirectBoot& boot, const MultibootHeader& header, const BootTarget& target);

}  // namespace atl::machine
