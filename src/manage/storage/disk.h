// Pools of type disk: a disk whose partitions are the volumes. parted(8) reads and changes the partition table.
//
// Supported: labels dos and gpt, primary partitions, on disks whose sectors are at least 512 bytes. Missing: extended
// and logical partitions, other labels.
#pragma once

#include <vector>

#include "manage/storage/backend.h"

namespace atl::manage {

/// Writes an empty partition table. Unless `overwrite`: only if nothing is recognised on the disk.
Status label_disk(const PoolDefinition& pool, bool overwrite);
Result<PlaceSizes> measure_disk(const PoolDefinition& pool);
/// The partitions, in the order of the disk.
Result<std::vector<Volume>> scan_disk(const PoolDefinition& pool);
/// Where there is room for it first; its name is chosen by its number.
Status add_partition(const PoolDefinition& pool, u64 bytes);
Status delete_partition(const PoolDefinition& pool, const std::string& volume);

/// What `parted -m` prints in bytes. Pure.
struct DiskExtent {
  u64 begin = 0, end = 0;  // the end is the byte behind it
  unsigned number = 0;     // of the partition; 0: free
  u64 bytes() const { return end - begin; }
};
struct DiskTable {
  u64 bytes = 0;
  std::vector<DiskExtent> extents;
};
Result<DiskTable> parse_disk_table(std::string_view text);

}  // namespace atl::manage
