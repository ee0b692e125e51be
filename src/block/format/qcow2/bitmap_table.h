// Bitmaps as they lie in the file: the directory and the tables; qcow2 spec, "Bitmaps extension" and what follows.
#pragma once

#include "block/format/qcow2/core.h"

namespace atl::block::qcow2 {

inline constexpr u32 kBitmapInUse = 1, kBitmapAuto = 2, kBitmapExtraCompatible = 4;
inline constexpr u8 kDirtyTracking = 1;
inline constexpr u32 kMinGranularityBits = 9, kMaxGranularityBits = 31;
inline constexpr u64 kMaxBitmapNameBytes = 1023;
inline constexpr u64 kMaxBitmapTableBytes = 8 * kMiB;
inline constexpr u64 kAllOnes = 1;   // a table entry without a cluster

struct BitmapEntry {
  u64 table_offset = 0;
  u32 table_entries = 0;
  u32 flags = 0;
  u8 type = kDirtyTracking;
  u8 granularity_bits = 16;
  std::vector<u8> extra;
  std::string name;
};

/// Entries of the table of a bitmap for such a disk.
u64 bitmap_table_entries(const Geometry& geometry, u64 size_bytes, u32 granularity_bits);
Task<Result<std::vector<BitmapEntry>>> read_bitmap_directory(Core& core);
std::vector<u8> build_bitmap_directory(const std::vector<BitmapEntry>& entries);
Task<Result<std::vector<u64>>> read_bitmap_table(Core& core, const BitmapEntry& entry);
Task<Status> write_bitmap_table(Core& core, const BitmapEntry& entry, const std::vector<u64>& table);

}  // namespace atl::block::qcow2
