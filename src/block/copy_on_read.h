// Driver "copy-on-read": what is read from a backing file is kept in the image above it.
#pragma once

#include "block/driver.h"

namespace atl::block {

/// Looks like the node itself (-drive copy-on-read=on).
NodePtr make_copy_on_read(Graph& graph, NodePtr node);

}  // namespace atl::block
