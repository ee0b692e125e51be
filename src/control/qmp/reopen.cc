// blockdev-reopen: other options of nodes that are open.
#include <fmt/format.h>

#include "control/cmdline/translate.h"
#include "control/qmp/block_support.h"

namespace atl::control {
namespace {

using block::NodePtr;

/// What may change in a node that is open: its access mode, and what stands below it.
Task<Status> reopen(BlockStore::Place& place, NodePtr node, const Json& options) {
  NodePtr backing;
  auto below = options.find("backing");
  const auto* name = below == options.end() ? nullptr : below->get_ptr<const std::string*>();
  // Left out, an option is to have its default: for a backing file that would be to open it anew.
  if (below == options.end() && block::backing_of(*node))
    co_return Error(ErrorKind::Invalid, fmt::format("backing is missing for '{}'", node->info().node_name));
  if (below != options.end() && !below->is_null() && !name)
    co_return Error(ErrorKind::Unsupported, "Cannot change the option 'backing' to anything but a node name or null");
  if (name) {
    backing = place.graph.find(*name);
    if (!backing) co_return Error(ErrorKind::NotFound, fmt::format("Cannot find device='' nor node-name='{}'", *name));
    std::vector<NodePtr> chain;
    for (NodePtr at = backing; at; at = block::backing_of(*at))
      if (at == node) co_return Error(ErrorKind::Invalid, fmt::format("Making '{}' a backing child of '{}' would create a cycle", *name, node->info().node_name));
  }
  bool readonly = flag_argument(options, "read-only", false);
  static_cast<void>(co_await place.graph.drain());
  Status status = co_await node->set_readonly(readonly);
  if (status && below != options.end() && block::backing_of(*node) != backing) status = node->replace_child("backing", backing);
  place.graph.resume();
  co_return status;
}

bool may_change(const std::string& key) { return key == "read-only" || key == "backing"; }

/// A child is described, or named: both say the same if the description has that name.
bool names_the_same(const Json& one, const Json& other) {
  if (one.is_object() && other.is_string()) return names_the_same(other, one);
  if (!one.is_string() || !other.is_object()) return false;
  auto name = other.find("node-name");
  return name != other.end() && *name == one;
}

/// Every other option must say what it said before; of nodes below that are described again, too.
Status check_reopen(const Json& before, const Json& after) {
  for (const auto& [key, value] : after.items()) {
    if (may_change(key)) continue;
    auto old = before.find(key);
    if (old != before.end() && (*old == value || names_the_same(*old, value))) continue;
    if (old != before.end() && old->is_object() && value.is_object()) {
      TRY(check_reopen(*old, value));
      continue;
    }
    return Error(ErrorKind::Unsupported, fmt::format("Cannot change the option '{}'", key));
  }
  for (const auto& [key, value] : before.items())
    if (!may_change(key) && !after.contains(key)) return Error(ErrorKind::Unsupported, fmt::format("Cannot change the option '{}'", key));
  return {};
}

/// Nodes of jobs stay as they are, but the target of a mirror may get its backing file late.
Status check_unused(const BlockStore::Located& located, const Json& options) {
  const bool late = located.place->thread.run_on([&] {
    auto job = located.place->jobs.user_of(*located.node);
    return job && job->type() == "mirror" && job->nodes().back() == located.node.get();
  });
  if (late && !flag_argument(options, "read-only", false)) return {};
  return check_idle(located);
}

}  // namespace

Reply blockdev_reopen(QmpContext& c, const Json& arguments) {
  for (const Json& options : arguments["options"]) {
    auto wanted = TRY(drive_from_tree(options, c.vm.fd_sets()));
    auto found = find_node(c, wanted.id);
    if (!found) return Error(ErrorKind::Invalid, fmt::format("Failed to find node with node-name='{}'", wanted.id));
    auto located = *std::move(found);
    TRY(check_unused(located, *wanted.tree));
    auto* drive = store(c).find_drive(wanted.id);
    if (!drive) return Error(ErrorKind::Unsupported, fmt::format("Node '{}' was not added by blockdev-add", wanted.id));
    TRY(check_reopen(*drive->config.tree, *wanted.tree));
    TRY(finish_on(located.place->thread, [&] { return reopen(*located.place, located.node, *wanted.tree); }));
    drive->config.tree = wanted.tree;
  }
  return Json::object();
}

}  // namespace atl::control
