// Every write is on stable storage before it completes (cache=writethrough and directsync).
#pragma once

#include "block/node.h"

namespace atl::block {

/// Looks like the node itself, and stands in its place.
NodePtr make_write_through(NodePtr node);

}  // namespace atl::block
