// Another size of the disk, or of what is stored of it.
#pragma once

#include "block/format/qcow2/core.h"

namespace atl::block::qcow2 {

Task<Status> resize_disk(Core& core, u64 size_bytes, Preallocation how);
/// Drops all that the image holds itself.
Task<Status> empty_disk(Core& core);
/// A larger L1 table, elsewhere; the old one is freed. `tables` is held.
Task<Status> grow_l1(Core& core, u64 entries);
/// Room in the file for all that preallocation of the disk will need beyond that of `old_size`.
Task<Status> reserve(Core& core, u64 old_size, Preallocation how);

/// Bytes of the file of an image whose disk is stored as a whole; as qemu-img measure counts.
u64 full_file_bytes(u64 size_bytes, const Geometry& geometry);
/// Bytes of refcount tables and blocks for so many clusters and themselves.
u64 refcount_bytes(u64 clusters, const Geometry& geometry);

}  // namespace atl::block::qcow2
