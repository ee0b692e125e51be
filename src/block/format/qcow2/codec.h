// Deflate and zstd of single clusters, as qcow2 stores them. Safe on any thread.
#pragma once

#include <span>

#include "base/types.h"

namespace atl::block::qcow2 {

/// The length of the result, or 0 if it does not fit into `to`.
u64 compress_cluster(u8 type, std::span<const u8> from, std::span<u8> to);
/// Whether `from`, behind which anything may follow, gives exactly as many bytes as `to` has (or more).
bool decompress_cluster(u8 type, std::span<const u8> from, std::span<u8> to);

}  // namespace atl::block::qcow2
