// VHDX: places and numbers ([MS-VHDX], "VHDX Format Specification" 1.00). All fields are little-endian.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl::block::vhdx {

using Guid = std::array<u8, 16>;

inline constexpr u64 kHeader1At = 64 * kKiB, kHeader2At = 128 * kKiB, kHeaderBytes = 4 * kKiB;
inline constexpr u64 kRegion1At = 192 * kKiB, kRegion2At = 256 * kKiB, kRegionBytes = 64 * kKiB;
inline constexpr u64 kFileIdBytes = 64 * kKiB;
inline constexpr u64 kLogSectorBytes = 4 * kKiB;
inline constexpr u64 kMetadataTableBytes = 64 * kKiB, kMaxMetadataBytes = 16 * kMiB;
inline constexpr u64 kMaxDiskBytes = u64{64} << 40;
inline constexpr u64 kMinBlockBytes = kMiB, kMaxBlockBytes = 256 * kMiB;
inline constexpr u64 kSectorsPerBitmap = u64{1} << 23;  // chunk: sectors that one sector bitmap block tells of

inline constexpr u32 kHeadMagic = 0x64616568, kRegionMagic = 0x69676572;  // "head", "regi"
inline constexpr u64 kFileMagic = 0x656c696678646876;                     // "vhdxfile"
inline constexpr u64 kMetadataMagic = 0x617461646174656d;                 // "metadata"
inline constexpr u32 kLogMagic = 0x65676f6c;                              // "loge"
inline constexpr u32 kZeroMagic = 0x6f72657a, kDescMagic = 0x63736564,
                     kDataMagic = 0x61746164;  // "zero", "desc", "data"

// States of payload blocks: the low three bits of a table entry. The file offset, in MiB, is in bits 20 to 63.
enum BlockState : u8 { NotPresent = 0, Undefined = 1, Zero = 2, Unmapped = 3, FullyPresent = 6, PartiallyPresent = 7 };
inline constexpr u64 kStateMask = 7;
inline constexpr u64 kOffsetMask = ~u64{0xfffff};

struct Header {
  u64 at = kHeader1At;  // which of the two
  u64 sequence = 0;
  Guid file_write{}, data_write{}, log{};
  u16 version = 1;
  u32 log_bytes = kMiB;
  u64 log_offset = kMiB;

  bool has_log() const { return log != Guid{}; }
};

struct Region {
  u64 offset = 0;
  u32 bytes = 0;
};
struct Regions {
  Region table, metadata;  // the block allocation table; the metadata
};

struct Metadata {
  u32 block_bytes = 0;
  bool fixed = false;  // blocks stay allocated
  u64 disk_bytes = 0;
  u32 sector_bytes = 512, physical_sector_bytes = 4096;

  u64 chunk_ratio() const { return kSectorsPerBitmap * sector_bytes / block_bytes; }
  u64 blocks() const { return disk_bytes / block_bytes + (disk_bytes % block_bytes != 0); }
  /// Payload blocks with an entry for a bitmap after each chunk.
  u64 entries() const { return blocks() ? blocks() + (blocks() - 1) / chunk_ratio() : 0; }
  u64 entry_of(u64 block) const { return block + block / chunk_ratio(); }
};

/// CRC-32C with the four bytes at `sum_at` counted as zero.
u32 checksum(std::span<const u8> bytes, u64 sum_at);

/// The header that counts: the valid one with the higher sequence number.
Result<Header> choose_header(std::span<const u8> first, std::span<const u8> second);
Result<Regions> parse_regions(std::span<const u8> bytes);
Result<Metadata> parse_metadata(std::span<const u8> region);

std::vector<u8> build_header(const Header& header);
std::vector<u8> build_regions(const Regions& regions);
/// As many bytes as the metadata region's used start.
Result<std::vector<u8>> build_metadata(const Metadata& metadata);

}  // namespace atl::block::vhdx
