// VHD ("vpc"): places and numbers of footer and dynamic header, Virtual Hard Disk Image Format Specification 1.0. All
// fields are big-endian.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl::block::vpc {

inline constexpr u64 kFooterBytes = 512, kDynamicBytes = 1024;
inline constexpr u32 kFixed = 2, kDynamic = 3, kDifferencing = 4;
inline constexpr u32 kFree = 0xffff'ffff;  // entry of the block table
inline constexpr u32 kBlockBytes = 2 * kMiB;

struct Geometry {
  u32 cylinders = 0, heads = 0, sectors = 0;
  u64 total() const { return u64{cylinders} * heads * sectors; }
};
inline constexpr Geometry kLargest{65535, 16, 255};
inline constexpr u64 kMaxSectors = 0xff00'0000;  // 2040 GiB: what 32-bit sector numbers reach, less the tables

struct Footer {
  u32 type = kDynamic;
  u64 header_offset = kFooterBytes;  // of the dynamic header; all ones in fixed images
  std::string creator = "qem2";      // QEMU's and others' readers choose by it where they take the size from
  u64 disk_bytes = 0;
  Geometry geometry;
};

struct DynamicHeader {
  u64 table_offset = kFooterBytes + kDynamicBytes;
  u32 entries = 0;
  u32 block_bytes = kBlockBytes;
};

/// Nothing if these bytes are no footer.
std::optional<Footer> parse_footer(std::span<const u8> bytes);
Result<DynamicHeader> parse_dynamic(std::span<const u8> bytes);
Result<std::vector<u8>> build_footer(const Footer& footer);
std::vector<u8> build_dynamic(const DynamicHeader& header);

/// The specification's appendix: the geometry of a disk of `sectors`, cylinders rounded up so that nothing is cut off.
Geometry geometry_of(u64 sectors);
/// The smallest geometry that holds so many.
Geometry geometry_for(u64 sectors);

}  // namespace atl::block::vpc
