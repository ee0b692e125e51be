// qcow2: numbers and the meaning of table entries, as QEMU's docs/interop/qcow2.txt has them. All fields are
// big-endian.
#pragma once

#include "base/math.h"
#include "base/types.h"

namespace atl::block::qcow2 {

inline constexpr u32 kMagic = 0x514649fb;  // "QFI\xfb"
inline constexpr u64 kHeaderV2Bytes = 72, kHeaderV3Bytes = 104, kHeaderTypedBytes = 112;
inline constexpr u32 kMinClusterBits = 9, kMaxClusterBits = 21;

// Limits that keep hostile headers from costing memory; real images stay far below.
inline constexpr u64 kMaxL1Bytes = 32 * kMiB;
inline constexpr u64 kMaxRefcountTableBytes = 8 * kMiB;
inline constexpr u32 kMaxBackingName = 1023;
inline constexpr u64 kMaxHostOffset = u64{1} << 56;
inline constexpr u32 kMaxSnapshots = 65536;
inline constexpr u64 kMaxSnapshotTableBytes = 16 * kMiB;
inline constexpr u32 kMaxBitmaps = 65535;
inline constexpr u64 kMaxBitmapDirectoryBytes = 64 * kMiB;

// Where fields are that change on their own.
inline constexpr u64 kSizeAt = 24, kL1SizeAt = 36, kRefcountTableAt = 48, kSnapshotsAt = 60, kIncompatibleAt = 72,
                     kAutoclearAt = 88;

// Incompatible features: an image with one that is not known must not be opened.
inline constexpr u64 kDirty = 1 << 0;    // refcounts may be wrong
inline constexpr u64 kCorrupt = 1 << 1;  // must not be written
inline constexpr u64 kDataFile = 1 << 2;
inline constexpr u64 kCompressionType = 1 << 3;
inline constexpr u64 kExtendedL2 = 1 << 4;
inline constexpr u64 kKnownIncompatible = kDirty | kCorrupt | kDataFile | kCompressionType | kExtendedL2;
// Compatible, and those that a writer who does not know them clears.
inline constexpr u64 kLazyRefcounts = 1 << 0;
inline constexpr u64 kBitmapsValid = 1 << 0;
inline constexpr u64 kRawDataFile = 1 << 1;
inline constexpr u64 kKnownAutoclear = kBitmapsValid | kRawDataFile;

enum Encryption : u32 { kPlain = 0, kAes = 1, kLuks = 2 };
enum Compression : u8 { kZlib = 0, kZstd = 1 };

// Header extensions.
inline constexpr u32 kExtensionEnd = 0;
inline constexpr u32 kExtensionBackingFormat = 0xe2792aca;
inline constexpr u32 kExtensionFeatureNames = 0x6803f857;
inline constexpr u32 kExtensionBitmaps = 0x23852875;
inline constexpr u32 kExtensionCrypto = 0x0537be77;
inline constexpr u32 kExtensionDataFile = 0x44415441;

// Table entries.
inline constexpr u64 kOffsetMask = 0x00ff'ffff'ffff'fe00;  // bits 9 to 55
inline constexpr u64 kCopied = u64{1} << 63;               // refcount is exactly one: may be written in place
inline constexpr u64 kCompressed = u64{1} << 62;
inline constexpr u64 kZero = 1;  // version 3: reads as zeroes
inline constexpr u64 kReservedL1Bits = 0x7f00'0000'0000'01ff;
inline constexpr u64 kReservedRefcountBits = 0x1ff;

inline constexpr u32 kSubclusters = 32;  // of a cluster, with extended L2 entries

/// Sizes that follow from the header.
struct Geometry {
  u32 cluster_bits = 16;
  u32 refcount_order = 4;  // a refcount has 1 << order bits
  bool extended_l2 = false;

  constexpr u64 cluster_bytes() const { return u64{1} << cluster_bits; }
  constexpr u64 in_cluster(u64 offset) const { return offset & (cluster_bytes() - 1); }
  constexpr u64 cluster_start(u64 offset) const { return align_down(offset, cluster_bytes()); }
  constexpr u64 cluster_end(u64 offset) const { return align_up(offset, cluster_bytes()); }
  /// The smallest piece that has a state of its own.
  constexpr u32 unit_bits() const { return extended_l2 ? cluster_bits - 5 : cluster_bits; }
  constexpr u64 unit_bytes() const { return u64{1} << unit_bits(); }
  constexpr u32 units() const { return extended_l2 ? kSubclusters : 1; }
  constexpr u32 unit_of(u64 offset) const { return static_cast<u32>(in_cluster(offset) >> unit_bits()); }

  constexpr u64 l2_entry_bytes() const { return extended_l2 ? 16 : 8; }
  constexpr u64 l2_entries() const { return cluster_bytes() / l2_entry_bytes(); }
  constexpr u64 bytes_per_l2() const { return l2_entries() << cluster_bits; }
  constexpr u64 l1_index(u64 offset) const { return offset / bytes_per_l2(); }
  constexpr u64 l2_index(u64 offset) const { return (offset >> cluster_bits) & (l2_entries() - 1); }
  constexpr u64 refcounts_per_block() const { return cluster_bytes() * 8 >> refcount_order; }
  constexpr u64 max_refcount() const { return refcount_order == 6 ? ~u64{0} : (u64{1} << (1 << refcount_order)) - 1; }
  constexpr u64 clusters(u64 bytes) const { return (bytes >> cluster_bits) + (in_cluster(bytes) != 0); }
  constexpr u64 l1_entries(u64 disk_bytes) const {
    return disk_bytes / bytes_per_l2() + (disk_bytes % bytes_per_l2() != 0);
  }
};

/// An entry of an L2 table; `bitmap` exists with extended entries only: 32 bits "allocated", above them 32 bits "zero".
struct L2Entry {
  u64 word = 0;
  u64 bitmap = 0;
};

/// Where the bytes of a guest cluster (or subcluster) are.
struct Extent {
  enum Kind : u8 { Backing, Zero, Data, Compressed, Invalid } kind = Backing;
  bool placed = false;  // `host` is a cluster of this entry
  bool copied = false;  // that belongs to this entry alone
  u64 host = 0;         // of the cluster
};

/// `external`: the data are in a file of their own, where offset 0 is as good as any.
constexpr Extent decode_l2(L2Entry entry, u32 unit, bool extended, bool external) {
  if (entry.word & kCompressed) return {Extent::Compressed, false, false, 0};
  const u64 host = entry.word & kOffsetMask;
  const bool copied = entry.word & kCopied;
  const bool placed = host != 0 || (external && copied);
  if (!extended) {
    if (entry.word & kZero) return {Extent::Zero, placed, placed && copied, host};
    return {placed ? Extent::Data : Extent::Backing, placed, placed && copied, host};
  }
  const bool allocated = entry.bitmap >> unit & 1, zero = entry.bitmap >> (kSubclusters + unit) & 1;
  if ((allocated && zero) || (allocated && !placed) || (entry.word & kZero)) return {Extent::Invalid, placed, copied, host};
  return {zero ? Extent::Zero : allocated ? Extent::Data : Extent::Backing, placed, placed && copied, host};
}

/// Compressed data: `bytes` from `host` on, up to the end of a 512 byte sector.
struct CompressedPlace {
  u64 host = 0, bytes = 0;
};

constexpr CompressedPlace decode_compressed(u64 word, u32 cluster_bits) {
  const u32 size_shift = 62 - (cluster_bits - 8);
  const u64 host = word & ((u64{1} << size_shift) - 1);
  const u64 sectors = (word & ~(kCopied | kCompressed)) >> size_shift;
  return {host, (sectors + 1) * 512 - host % 512};
}

constexpr u64 encode_compressed(CompressedPlace place, u32 cluster_bits) {
  const u32 size_shift = 62 - (cluster_bits - 8);
  const u64 sectors = (place.host + place.bytes - 1) / 512 - place.host / 512;
  return kCompressed | place.host | sectors << size_shift;
}

/// The first offset that a compressed cluster's entry has no room for.
constexpr u64 compressed_limit(u32 cluster_bits) { return u64{1} << (62 - (cluster_bits - 8)); }

}  // namespace atl::block::qcow2
