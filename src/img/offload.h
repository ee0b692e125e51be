// convert -C: lets the host's file system copy, sharing blocks where it can.
#pragma once

#include "img/tool.h"

namespace atl::img {

using block::Node;

/// Copies all of `source` with copy_file_range(2) if both are raw files of the host. False: they are not, or the host cannot;
/// nothing is lost by copying again.
Task<Result<bool>> offload_copy(Tool& tool, Node& source, Node& target, u64 target_offset);

}  // namespace atl::img
