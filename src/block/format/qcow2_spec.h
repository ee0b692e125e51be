// qcow2: numbers and the meaning of table entries, as QEMU's docs/interop/qcow2.txt has them. All fields are
// big-endian.
#pragma once

#include "base/types.h"

namespace atl::block::qcow2 {

inline constexpr u32 kMagic = 0x514649fb;  // "QFI\xfb"
inline constexpr u64 kHeaderV2Bytes = 72, kHeaderV3Bytes = 104;
inline constexpr u32 kMinClusterBits = 9, kMaxClusterBits = 21;

// Limits that keep hostile headers from costing memory; real images stay far below.
inline constexpr u64 kMaxL1Bytes = 32 * kMiB;
inline constexpr u64 kMaxRefcountTableBytes = 8 * kMiB;
inline constexpr u32 kMaxBackingName = 1023;

// Incompatible features: an image with one that is not known must not be opened.
inline constexpr u64 kDirty = 1 << 0;    // refcounts may be wrong
inline constexpr u64 kCorrupt = 1 << 1;  // must not be written
inline constexpr u64 kDataFile = 1 << 2;
inline constexpr u64 kCompressionType = 1 << 3;
inline constexpr u64 kExtendedL2 = 1 << 4;

// Header extensions.
inline constexpr u32 kExtensionEnd = 0;
inline constexpr u32 kExtensionBackingFormat = 0xe2792aca;

// Table entries.
inline constexpr u64 kOffsetMask = 0x00ff'ffff'ffff'fe00;  // bits 9 to 55
inline constexpr u64 kCopied = u64{1} << 63;               // refcount is exactly one: may be written in place
inline constexpr u64 kCompressed = u64{1} << 62;
inline constexpr u64 kZero = 1;  // version 3: reads as zeroes

/// Where the bytes of a guest cluster are.
struct Extent {
  enum Kind : u8 { Backing, Zero, Data, Compressed } kind = Backing;
  u64 host = 0;         // Data: of the cluster; Zero: of a cluster that stays allocated, or 0
  bool copied = false;  // `host` belongs to this entry alone
};

constexpr Extent decode_l2(u64 entry) {
  if (entry & kCompressed) return {Extent::Compressed, 0, false};
  u64 host = entry & kOffsetMask;
  bool copied = host && (entry & kCopied);
  if (entry & kZero) return {Extent::Zero, host, copied};
  if (host) return {Extent::Data, host, copied};
  return {Extent::Backing, 0, false};
}

/// Sizes that follow from the cluster size and the refcount width.
struct Geometry {
  u32 cluster_bits = 16;
  u32 refcount_order = 4;  // a refcount has 1 << order bits

  constexpr u64 cluster_bytes() const { return u64{1} << cluster_bits; }
  constexpr u64 l2_entries() const { return cluster_bytes() / 8; }
  constexpr u64 bytes_per_l2() const { return l2_entries() << cluster_bits; }
  constexpr u64 refcounts_per_block() const { return cluster_bytes() * 8 >> refcount_order; }
  constexpr u64 max_refcount() const { return refcount_order == 6 ? ~u64{0} : (u64{1} << (1 << refcount_order)) - 1; }
  constexpr u64 clusters(u64 bytes) const { return (bytes >> cluster_bits) + ((bytes & (cluster_bytes() - 1)) != 0); }
  constexpr u64 l1_entries(u64 disk_bytes) const {
    return disk_bytes / bytes_per_l2() + (disk_bytes % bytes_per_l2() != 0);
  }
};

}  // namespace atl::block::qcow2
