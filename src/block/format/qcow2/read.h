// Reading the disk.
#pragma once

#include "block/format/qcow2/core.h"

namespace atl::block::qcow2 {

/// Reads inside the disk; with `tables` held or not.
Task<Status> read_disk(Core& core, u64 offset, std::span<const iovec> out);
/// Bytes as they are stored at `host`, decrypted.
Task<Status> read_stored(Core& core, u64 host, u64 guest, std::span<const iovec> out);
Task<Result<BlockStatus>> disk_status(Core& core, u64 offset, u64 bytes);

}  // namespace atl::block::qcow2
