// The BIOS memory map (INT 15h, AX=E820h; ACPI 6.4 section 15) as boards describe it to kernels and firmware.
#pragma once

#include <vector>

#include "base/types.h"

namespace atl::machine {

enum class E820Type : u32 { Usable = 1, Reserved = 2 };

struct E820Entry {
  u64 base = 0;
  u64 size = 0;
  E820Type type = E820Type::Usable;
  bool operator==(const E820Entry&) const = default;
};

/// Where a board has RAM: from 0 to `low_bytes`, and from 4 GiB on `high_bytes`.
struct RamLayout {
  u64 low_bytes = 0;
  u64 high_bytes = 0;
};

inline constexpr GuestAddr kHighRamBase = u64{4} * kGiB;
inline constexpr GuestAddr kEbdaBase = 0x9fc00;         // the last KiB of conventional memory
inline constexpr GuestAddr kFirmwareTables = 0xe0000;   // ACPI tables of a direct kernel boot
inline constexpr GuestAddr kSmbiosAnchor = 0xf0000;     // the segment in which kernels look for it
inline constexpr GuestAddr kUpperMemory = 0x100000;

/// The map that a kernel gets from us when no firmware runs.
std::vector<E820Entry> direct_boot_map(const RamLayout& ram);

}  // namespace atl::machine
