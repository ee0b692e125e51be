// Internal snapshots as command lines name them: an ID, a name, or "snapshot.id=1,snapshot.name=a".
#pragma once

#include <string>

#include "img/nodes.h"

namespace atl::img {

/// A read-only view of the disk in that snapshot.
Task<Result<NodePtr>> open_snapshot(NodePtr node, std::string param);

}  // namespace atl::img
