// Sparse extents of VMDK images: header and grain tables (Virtual Disk Format 1.1, "Hosted Sparse Extents" and
// "Stream-Optimized Compressed Sparse Extents"). All fields are little-endian.
#pragma once

#include <memory>
#include <vector>

#include "block/format/two_level_table.h"

namespace atl::block::vmdk {

inline constexpr u32 kSparseMagic = 0x564d444b;  // "KDMV"
inline constexpr u32 kEsxMagic = 0x44574f43;     // "COWD"
inline constexpr u64 kHeaderBytes = 512;
inline constexpr u64 kZeroGrain = 1;     // a grain table's entry
inline constexpr u64 kMarkerBytes = 12;  // before a compressed grain: its first sector, its length

struct SparseHeader {
  u32 version = 1;
  bool redundant = true;  // two copies of all tables
  bool zero_grains = false;
  bool compressed = false, markers = false;
  bool has_footer = false;  // the directory's place stands at the file's end
  u64 capacity_sectors = 0;
  u64 grain_sectors = 128;
  u64 descriptor_sector = 0, descriptor_sectors = 0;
  u32 entries_per_table = 512;
  u64 redundant_sector = 0, directory_sector = 0;
  u64 data_sector = 0;

  u64 grain_bytes() const { return grain_sectors * kSectorBytes; }
  u64 directory_entries() const {
    const u64 covered = entries_per_table * grain_sectors;
    return capacity_sectors / covered + (capacity_sectors % covered != 0);
  }
  TwoLevelShape shape() const;
};

/// Reads the header, and the footer that streams have instead. Errors name the field.
Task<Result<SparseHeader>> read_sparse_header(Node& file);
/// Images of these kinds are only read.
Status check_writable(const SparseHeader& header);

struct SparseChoice {
  u64 size_bytes = 0;
  bool compressed = false, zero_grains = false;
};
/// Writes an empty sparse extent; its header tells where a descriptor has room.
Task<Result<SparseHeader>> create_sparse_extent(Node& file, SparseChoice choice);

}  // namespace atl::block::vmdk
