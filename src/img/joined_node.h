// Several disks laid end to end and read as one: convert's concatenation of sources.
#pragma once

#include <vector>

#include "block/node.h"

namespace atl::img {

/// Read-only. Each part counts in whole sectors.
block::NodePtr join_nodes(std::vector<block::NodePtr> parts);

}  // namespace atl::img
