// Reading and writing files that may end anywhere.
#pragma once

#include <span>

#include "block/node.h"

namespace atl::block::qcow2 {

/// Reads from a file that may end early; the rest is zeroes.
Task<Status> read_padded(Node& file, u64 offset, std::span<const iovec> out);
Task<Status> read_padded(Node& file, u64 offset, std::span<u8> out);
/// Writes, growing the file first if it ends before. Not beside another request that grows it.
Task<Status> write_growing(Node& file, u64 offset, std::span<const iovec> data);
Task<Status> write_growing(Node& file, u64 offset, std::span<const u8> data);
Task<Status> grow_to(Node& file, u64 end);

}  // namespace atl::block::qcow2
