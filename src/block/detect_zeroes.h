// Turns written zeroes into write_zeroes, for any node (option detect-zeroes).
#pragma once

#include "block/node.h"

namespace atl::block {

/// Looks like the node itself, and stands in its place.
NodePtr make_detect_zeroes(NodePtr node, DetectZeroes how);

}  // namespace atl::block
