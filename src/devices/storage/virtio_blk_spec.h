// Block device: names and layouts of VIRTIO 1.2 section 5.2.
#pragma once

#include "base/types.h"

namespace atl::devices::virtio_blk {

// Feature bits (5.2.3).
inline constexpr u64 kFeatureSizeMax = u64{1} << 1;
inline constexpr u64 kFeatureSegMax = u64{1} << 2;
inline constexpr u64 kFeatureGeometry = u64{1} << 4;
inline constexpr u64 kFeatureRo = u64{1} << 5;
inline constexpr u64 kFeatureBlkSize = u64{1} << 6;
inline constexpr u64 kFeatureFlush = u64{1} << 9;
inline constexpr u64 kFeatureTopology = u64{1} << 10;
inline constexpr u64 kFeatureConfigWce = u64{1} << 11;
inline constexpr u64 kFeatureMq = u64{1} << 12;
inline constexpr u64 kFeatureDiscard = u64{1} << 13;
inline constexpr u64 kFeatureWriteZeroes = u64{1} << 14;

// Request types and status (5.2.6).
enum RequestType : u32 { kIn = 0, kOut = 1, kFlush = 4, kGetId = 8, kDiscard = 11, kWriteZeroes = 13 };
enum RequestStatus : u8 { kOk = 0, kIoErr = 1, kUnsupp = 2 };
inline constexpr u32 kSegmentUnmap = 1;
inline constexpr u32 kIdBytes = 20;
inline constexpr u32 kSectorBytes = 512;

/// The first bytes of each request; all fields here are little-endian, as the host is.
struct Header {
  u32 type;
  u32 reserved;
  u64 sector;
};
static_assert(sizeof(Header) == 16);

/// What a discard or write-zeroes request is about.
struct Segment {
  u64 sector;
  u32 num_sectors;
  u32 flags;
};
static_assert(sizeof(Segment) == 16);

/// Configuration bytes (5.2.4), up to those of secure erase.
struct [[gnu::packed]] Config {
  u64 capacity;  // in 512-byte sectors
  u32 size_max;
  u32 seg_max;
  u16 cylinders;
  u8 heads;
  u8 sectors;
  u32 blk_size;
  u8 physical_block_exp;
  u8 alignment_offset;
  u16 min_io_size;
  u32 opt_io_size;
  u8 writeback;
  u8 unused0;
  u16 num_queues;
  u32 max_discard_sectors;
  u32 max_discard_seg;
  u32 discard_sector_alignment;
  u32 max_write_zeroes_sectors;
  u32 max_write_zeroes_seg;
  u8 write_zeroes_may_unmap;
  u8 unused1[3];
};
static_assert(sizeof(Config) == 60);

}  // namespace atl::devices::virtio_blk
