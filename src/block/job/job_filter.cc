#include "block/job/job_filter.h"

#include "block/filter_node.h"

namespace atl::block {
namespace {

class JobFilterNode final : public FilterNode {
 public:
  JobFilterNode(NodePtr file, std::string name, const char* driver)
      : FilterNode(std::move(file)), name_(std::move(name)), driver_(driver) {}
  NodeInfo info() const override { return named_info(name_, driver_); }

 private:
  const std::string name_;
  const char* const driver_;
};

}  // namespace

Status JobFilter::insert(Graph& graph, NodePtr node, const std::string& name, const char* driver) {
  if (name.empty()) return {};
  TRY(graph.check_name(name));
  const Node& below = *node;
  filter_ = std::make_shared<JobFilterNode>(std::move(node), name, driver);
  graph.watch_name(filter_);
  return graph.replace(below, filter_);
}

Status JobFilter::remove(Graph& graph) {
  if (!filter_) return {};
  NodePtr filter = std::move(filter_);
  return graph.replace(*filter, filter->children().front().node);
}

}  // namespace atl::block
