// Writing the disk: data, zeroes, discards.
#pragma once

#include "block/format/qcow2/core.h"

namespace atl::block::qcow2 {

Task<Status> write_disk(Core& core, u64 offset, std::span<const iovec> data);
Task<Status> write_disk_zeroes(Core& core, u64 offset, u64 bytes, bool may_unmap);
/// `Full`: also what a backing file has shows through again.
enum class Clearing : u8 { Discard, ZeroAndUnmap, ZeroInPlace, Full };
/// Whole units, or up to the disk's end.
Task<Status> clear_disk(Core& core, u64 offset, u64 end, Clearing how);
Task<Status> discard_disk(Core& core, u64 offset, u64 bytes);
/// Writes bytes as they are to be stored at `host`, encrypted.
Task<Status> write_stored(Core& core, u64 host, u64 guest, std::span<const iovec> data);
/// Gives all that is not allocated in [offset, end) clusters that read as zeroes (preallocation=metadata), or after it
/// with room on the disk too.
Task<Status> preallocate(Core& core, u64 offset, u64 end, Preallocation how);

}  // namespace atl::block::qcow2
