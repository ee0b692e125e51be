// What differs between the kinds of pools: how the place of the volumes is made, brought up, measured and taken down.
#pragma once

#include <sys/stat.h>

#include "manage/storage/definition.h"
#include "manage/storage/volumes.h"

namespace atl::manage {

/// Makes the place: the folder; with `format` the file system or volume group, too. `overwrite`: whatever is on the
/// device.
Status build_place(const PoolDefinition& pool, bool format, bool overwrite);
/// Mounts or activates. Fine if it is up already.
Status open_place(const PoolDefinition& pool);
void close_place(const PoolDefinition& pool);
/// Undoes build_place. A folder must be empty.
Status delete_place(const PoolDefinition& pool);

struct PlaceSizes {
  u64 capacity_bytes = 0, allocation_bytes = 0, available_bytes = 0;
  struct stat status{};
};
Result<PlaceSizes> measure_place(const PoolDefinition& pool);
/// Before a scan that a client asked for.
Status look_again(const PoolDefinition& pool);
/// Makes or removes a volume that is a block device.
Status add_block(const PoolDefinition& pool, const VolumeRequest& request);
Status delete_block(const PoolDefinition& pool, const Volume& volume);
Result<std::vector<Volume>> scan_place(const PoolDefinition& pool, FormatRecord& record);

}  // namespace atl::manage
