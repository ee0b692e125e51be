#include "block/job/replacing.h"

#include <algorithm>

#include "block/root.h"

namespace atl::block {
namespace {

size_t parents_of(const Graph& graph, const Node& node) {
  size_t count = static_cast<size_t>(std::ranges::count_if(graph.roots(), [&](const Root* root) { return root->node().get() == &node; }));
  for (const NodePtr& parent : graph.all_nodes())
    for (const Child& child : parent->children()) count += child.node.get() == &node;
  return count;
}

}  // namespace

bool can_replace(const Graph& graph, const Node& source, const Node& wanted) {
  if (&source == &wanted) return true;
  const auto children = source.children();
  if (source.is_filter()) return can_replace(graph, *children.front().node, wanted);
  if (source.info().driver != "quorum") return false;
  return std::ranges::any_of(children, [&](const Child& child) {
    return can_replace(graph, *child.node, wanted) && parents_of(graph, *child.node) == 1;
  });
}

}  // namespace atl::block
