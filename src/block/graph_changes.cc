// Changes of a graph that is in use: draining, putting a node into another's place, observers.
#include <algorithm>
#include <set>

#include "block/root.h"

namespace atl::block {
namespace {

void collect(const Node& node, std::set<const Node*>& found) {
  if (!found.insert(&node).second) return;
  for (const Child& child : node.children()) {
    if (child.node) collect(*child.node, found);
  }
}

}  // namespace

Task<Status> Graph::drain() {
  ++drains_;
  std::vector<Root*> roots = roots_;
  for (Root* root : roots) static_cast<void>(co_await root->drain());
  co_return Status{};
}

void Graph::resume() {
  --drains_;
  // Those that were added since have not been drained.
  for (Root* root : roots_)
    if (root->is_drained()) root->resume();
}

Status Graph::replace(const Node& from, NodePtr to) {
  std::set<const Node*> kept;  // the new node and all below it keep standing on the old one
  collect(*to, kept);
  for (const NodePtr& parent : all_nodes()) {
    if (kept.contains(parent.get())) continue;
    for (const Child& child : parent->children()) {
      if (child.node.get() == &from) TRY(parent->replace_child(child.role, to));
    }
  }
  for (Root* root : roots_) {
    // Filters on top may stand on something else now.
    if (root->node().get() != &from) {
      root->set_node(root->node());
      continue;
    }
    root->set_node(to);
    if (root->on_resized) root->on_resized();
  }
  return {};
}

bool Graph::is_used(const Node& node) const {
  for (const Root* root : roots_)
    if (root->node().get() == &node) return true;
  for (const NodePtr& parent : all_nodes()) {
    for (const Child& child : parent->children())
      if (child.node.get() == &node) return true;
  }
  return false;
}

std::shared_ptr<Observers> Graph::observers(Node& node) {
  std::erase_if(watched_, [](const auto& entry) { return entry.second.node.expired(); });
  Watched& watched = watched_[&node];
  if (!watched.observers) {
    watched.observers = std::make_shared<Observers>();
    watched.node = node.weak_from_this();
  }
  return watched.observers;
}

void Graph::add_throttle_group(std::shared_ptr<ThrottleGroup> group) { throttle_groups_[group->name()] = std::move(group); }

std::shared_ptr<ThrottleGroup> Graph::throttle_group(const std::string& name) const {
  auto found = throttle_groups_.find(name);
  return found == throttle_groups_.end() ? nullptr : found->second;
}

}  // namespace atl::block
