// The node that a job puts above what it works on, if its starter gave it a name.
#pragma once

#include "block/driver.h"

namespace atl::block {

/// In place until it goes. Put in and taken out while the graph is drained.
class JobFilter {
 public:
  JobFilter() = default;
  JobFilter(const JobFilter&) = delete;
  JobFilter& operator=(const JobFilter&) = delete;

  /// Above `node`. Nothing happens if `name` is empty. `driver`: as it shows itself ("mirror_top").
  Status insert(Graph& graph, NodePtr node, const std::string& name, const char* driver);
  /// What stood on the filter stands on what is below it again.
  Status remove(Graph& graph);
  /// What takes the place of the node: the filter, if there is one.
  const Node& top_of(const Node& node) const { return filter_ ? *filter_ : node; }
  const Node* get() const { return filter_.get(); }

 private:
  NodePtr filter_;
};

}  // namespace atl::block
