// Compressed clusters: deflate and zstd, read and written, on several threads.
#pragma once

#include "block/format/qcow2/core.h"

namespace atl::block::qcow2 {

/// The bytes of a compressed cluster from `skip` on.
Task<Status> read_compressed(Core& core, CompressedPlace place, u64 skip, std::span<const iovec> out);
/// Writes whole clusters (the last may end with the disk); those that do not shrink are stored as they are.
Task<Status> write_compressed_clusters(Core& core, u64 offset, std::span<const iovec> data);

}  // namespace atl::block::qcow2
