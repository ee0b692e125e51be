// Which nodes a mirror's target may take the place of.
#pragma once

#include "block/driver.h"

namespace atl::block {

/// Whether nobody would see other data all of a sudden if a copy of `source` stood in the place of `wanted`: it is the source,
/// what the source is a filter of, or a child of a quorum there that nobody else stands on.
bool can_replace(const Graph& graph, const Node& source, const Node& wanted);

}  // namespace atl::block
