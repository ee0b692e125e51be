// Block nodes: queries, adding and removing, resizing, limits.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <ranges>
#include <set>

#include "block/image_info.h"
#include "control/cmdline/translate.h"
#include "control/qmp/block_support.h"
#include "machine/media.h"

namespace atl::control {
namespace {

using block::NodePtr;

/// ImageInfo with those of what it stands on.
Task<Result<Json>> whole_image_json(const block::Graph& graph, NodePtr node, bool with_backing) {
  auto facts = co_await block::collect_facts(graph, *node);
  Json image = block::image_json(CO_TRY(std::move(facts)));
  NodePtr below = node->is_filter() ? node->children().front().node : block::backing_of(*node);
  if (below && with_backing) {
    auto rest = co_await whole_image_json(graph, below, true);
    image["backing-image"] = CO_TRY(std::move(rest));
  }
  co_return image;
}

void put_limits(Json& info, const block::ThrottleLimits& limits) {
  constexpr std::string_view kNames[] = {"iops", "iops_rd", "iops_wr", "bps", "bps_rd", "bps_wr"};
  for (size_t i = 0; i < std::size(kNames); ++i) {
    const block::RateBucket& bucket = limits.buckets[i];
    info[std::string(kNames[i])] = bucket.average;
    if (!bucket.max) continue;
    info[fmt::format("{}_max", kNames[i])] = bucket.max;
    info[fmt::format("{}_max_length", kNames[i])] = bucket.burst_seconds;
  }
  if (limits.iops_size) info["iops_size"] = limits.iops_size;
}

Json bitmap_json(const block::DirtyBitmap& bitmap) {
  return {{"name", bitmap.name()},   {"count", bitmap.dirty_bytes()}, {"granularity", bitmap.granularity()},
          {"recording", bitmap.enabled}, {"busy", bitmap.busy},       {"persistent", bitmap.persistent}};
}

/// BlockDeviceInfo. On the node's loop.
Task<Result<Json>> node_json(BlockStore::Place& place, NodePtr owned, const BlockStore::Drive* drive, bool flat) {
  block::Node& node = *owned;
  const block::NodeInfo info = node.info();
  auto image = co_await whole_image_json(place.graph, owned, !flat);
  u64 depth = 0;
  for (NodePtr below = block::backing_of(node); below; below = block::backing_of(*below)) ++depth;
  Json json = {{"file", place.graph.name_of(node)}, {"node-name", info.node_name}, {"ro", info.readonly}, {"drv", info.driver},
               {"backing_file_depth", depth}, {"encrypted", node.image() && node.image()->encrypted()},
               {"detect_zeroes", info.detect_zeroes}, {"image", CO_TRY(std::move(image))}};
  json["cache"] = {{"writeback", !drive || !drive->config.write_through}, {"direct", info.cache_direct}, {"no-flush", info.cache_no_flush}};
  block::ThrottleLimits limits;
  u64 threshold = 0;
  for (block::Root* root : place.graph.roots()) {
    if (root->node().get() != &node) continue;
    threshold = root->write_threshold;
    if (root->throttle()) limits = root->throttle()->limits();
    if (root->throttle()) json["group"] = root->throttle()->name();
  }
  json["write_threshold"] = threshold;
  put_limits(json, limits);
  if (NodePtr below = block::backing_of(node)) json["backing_file"] = place.graph.name_of(*below);
  Json bitmaps = Json::array();
  for (const auto& entry : place.bitmaps | std::views::reverse)   // the newest first
    if (entry.node.lock().get() == &node) bitmaps.push_back(bitmap_json(*entry.bitmap));
  if (!bitmaps.empty()) json["dirty-bitmaps"] = std::move(bitmaps);
  co_return json;
}

/// Who holds a drive, as QEMU names it: the part of a virtio disk behind its transport, others by their id.
std::string holder_name(QmpContext& c, const std::string& user) {
  for (const machine::DeviceInfo& info : c.vm.machine().devices())
    if ((info.config.id == user || info.path == user) && info.config.type.starts_with("virtio-blk")) return info.path + "/virtio-backend";
  return user;
}

/// BlockInfo of a drive or device, without what is in it.
Json drive_json(const std::string& id, const std::string& user, const std::vector<machine::DriveState>& states) {
  Json entry = {{"device", id}, {"locked", false}, {"removable", false}, {"type", "unknown"}};
  for (const machine::DriveState& state : states) {
    if (!state.removable || state.qdev != user) continue;
    entry["removable"] = true;
    entry["locked"] = state.locked;
    entry["tray_open"] = state.tray_open;
  }
  if (user.empty()) return entry;
  entry["qdev"] = user;
  entry["io-status"] = "ok";
  return entry;
}

/// What is in a drive: its own medium, or a node that has been put into its device; nullptr if nothing is.
BlockStore::Drive* medium_of(BlockStore& blocks, BlockStore::Drive& drive) {
  if (drive.root) return &drive;
  for (BlockStore::Drive& other : blocks.drives())
    if (other.root && !drive.user.empty() && other.user == drive.user) return &other;
  return nullptr;
}

/// Whether a node stands in a device that has a drive, under whose name it appears.
bool is_inside_drive(BlockStore& blocks, const BlockStore::Drive& node) {
  if (node.config.from_drive_option || node.user.empty()) return false;
  return std::ranges::any_of(blocks.drives(), [&](const auto& d) { return d.config.from_drive_option && d.user == node.user; });
}

Reply query_block(QmpContext& c, const Json&) {
  Json list = Json::array();
  const std::vector<machine::DriveState> states = c.vm.machine().media().states();
  std::set<std::string> shown;
  for (BlockStore::Drive& drive : store(c).drives()) {
    if (!drive.root && !drive.config.from_drive_option) continue;  // a node that nobody uses
    if (is_inside_drive(store(c), drive)) continue;
    const std::string id = drive.config.from_drive_option ? drive.config.id : "";
    Json entry = drive_json(id, drive.user, states);
    if (!drive.user.empty()) entry["qdev"] = holder_name(c, drive.user);
    if (drive.io_error) entry["io-status"] = drive.no_space ? "nospace" : "failed";
    shown.insert(drive.user);
    if (BlockStore::Drive* medium = medium_of(store(c), drive))
      entry["inserted"] = TRY(finish_on(medium->place->thread, [&] { return node_json(*medium->place, medium->root->node(), medium, false); }));
    list.push_back(std::move(entry));
  }
  for (const machine::DriveState& state : states)
    if (!shown.contains(state.qdev)) list.push_back(drive_json("", state.qdev, states));
  return list;
}

Task<Result<Json>> all_nodes_json(BlockStore::Place& place, bool flat) {
  Json list = Json::array();
  for (const NodePtr& node : place.graph.all_nodes()) {
    auto json = co_await node_json(place, node, nullptr, flat);
    list.push_back(CO_TRY(std::move(json)));
  }
  co_return list;
}

Reply query_named_block_nodes(QmpContext& c, const Json& arguments) {
  const bool flat = flag_argument(arguments, "flat", false);
  Json list = Json::array();
  for (BlockStore::Place* place : store(c).places()) {
    const Json nodes = TRY(finish_on(place->thread, [&] { return all_nodes_json(*place, flat); }));
    list.insert(list.end(), nodes.begin(), nodes.end());
  }
  return list;
}

void put_histogram(Json& json, const char* name, const block::OperationStats& s) {
  if (s.latency) json[name] = {{"boundaries", s.latency->boundaries_ns}, {"bins", s.latency->bins}};
}

Json stats_json(const block::RootStats& s) {
  Json json = {{"rd_bytes", s.read.bytes}, {"rd_operations", s.read.operations}, {"rd_total_time_ns", s.read.time_ns},
               {"failed_rd_operations", s.read.failed}, {"invalid_rd_operations", s.read.invalid}, {"rd_merged", 0},
               {"wr_bytes", s.write.bytes}, {"wr_operations", s.write.operations}, {"wr_total_time_ns", s.write.time_ns},
               {"failed_wr_operations", s.write.failed}, {"invalid_wr_operations", s.write.invalid}, {"wr_merged", 0},
               {"flush_operations", s.flush.operations}, {"flush_total_time_ns", s.flush.time_ns}, {"failed_flush_operations", s.flush.failed}, {"invalid_flush_operations", 0},
               {"unmap_bytes", s.unmap.bytes}, {"unmap_operations", s.unmap.operations}, {"unmap_total_time_ns", s.unmap.time_ns},
               {"failed_unmap_operations", s.unmap.failed}, {"invalid_unmap_operations", s.unmap.invalid}, {"unmap_merged", 0},
               {"wr_highest_offset", s.highest_write}, {"account_invalid", true}, {"account_failed", true}, {"timed_stats", Json::array()}};
  put_histogram(json, "rd_latency_histogram", s.read);
  put_histogram(json, "wr_latency_histogram", s.write);
  put_histogram(json, "flush_latency_histogram", s.flush);
  if (s.last_access_ns) json["idle_time_ns"] = monotonic_ns() - s.last_access_ns;
  return json;
}

/// The node and what it stands on, with the counters of the root above it.
Json node_stats(block::Node& node, const block::RootStats& stats) {
  Json json = {{"node-name", node.info().node_name}, {"stats", stats_json(stats)}};
  for (const block::Child& child : node.children()) {
    if (!child.node) continue;
    Json below = node_stats(*child.node, {});
    if (child.role == "file") json["parent"] = std::move(below);
    else if (child.role == "backing") json["backing"] = std::move(below);
  }
  return json;
}

Reply query_blockstats(QmpContext& c, const Json& arguments) {
  Json list = Json::array();
  if (flag_argument(arguments, "query-nodes", false)) {
    for (BlockStore::Place* place : store(c).places())
      place->thread.run_on([&] {
        for (const NodePtr& node : place->graph.all_nodes()) list.push_back(node_stats(*node, {}));
      });
    return list;
  }
  for (BlockStore::Drive& drive : store(c).drives()) {
    if (!drive.root) continue;
    Json entry = drive.place->thread.run_on([&] { return node_stats(*drive.root->node(), drive.root->stats()); });
    if (drive.config.from_drive_option) entry["device"] = drive.config.id;
    if (!drive.user.empty()) entry["qdev"] = holder_name(c, drive.user);
    list.push_back(std::move(entry));
  }
  return list;
}

/// Nodes and who stands on them. Permissions are none: requests are not checked by them here.
Json graph_json(BlockStore& blocks, BlockStore::Place& place, u64& next_id) {
  Json nodes = Json::array(), edges = Json::array();
  std::map<const block::Node*, u64> ids;
  const auto add = [&](const block::Node* key, const std::string& name, const char* type) {
    ids[key] = ++next_id;
    nodes.push_back({{"id", next_id}, {"name", name}, {"type", type}});
  };
  const auto link = [&](const block::Node* parent, const block::Node* child, const std::string& role) {
    edges.push_back({{"parent", ids[parent]}, {"child", ids[child]}, {"name", role}, {"perm", Json::array()}, {"shared-perm", Json::array()}});
  };
  const std::vector<NodePtr> all = place.graph.all_nodes();
  for (const NodePtr& node : all) add(node.get(), node->info().node_name, "block-driver");
  for (const BlockStore::Drive& drive : blocks.drives())
    if (drive.root && drive.place == &place) add(drive.root.get(), drive.config.from_drive_option ? drive.config.id : drive.user, "block-backend");
  for (const NodePtr& node : all)
    for (const block::Child& child : node->children())
      if (child.node) link(node.get(), child.node.get(), child.role);
  for (const BlockStore::Drive& drive : blocks.drives())
    if (drive.root && drive.place == &place) link(drive.root.get(), drive.root->node().get(), "root");
  return {{"nodes", std::move(nodes)}, {"edges", std::move(edges)}};
}

Reply query_block_graph(QmpContext& c, const Json&) {
  Json whole = {{"nodes", Json::array()}, {"edges", Json::array()}};
  u64 next_id = 0;
  for (BlockStore::Place* place : store(c).places()) {
    const Json part = place->thread.run_on([&] { return graph_json(store(c), *place, next_id); });
    for (const char* key : {"nodes", "edges"}) whole[key].insert(whole[key].end(), part[key].begin(), part[key].end());
  }
  return whole;
}

Reply blockdev_add(QmpContext& c, const Json& arguments) { return done(c.vm.add_block_node(arguments)); }
Reply blockdev_del(QmpContext& c, const Json& arguments) { return done(store(c).remove(text_argument(arguments, "node-name"))); }

/// Only quorums have children that come and go.
Task<Status> change_children(BlockStore::Place& place, NodePtr parent, std::string role, NodePtr node) {
  static_cast<void>(co_await place.graph.drain());
  Status status = parent->replace_child(role, std::move(node));
  place.graph.resume();
  co_return status;
}

Reply x_blockdev_change(QmpContext& c, const Json& arguments) {
  const std::string child = text_argument(arguments, "child"), name = text_argument(arguments, "node");
  auto parent = TRY(find_node(c, text_argument(arguments, "parent")));
  if (!child.empty() && !name.empty()) return Error(ErrorKind::Invalid, "The parameters child and node are in conflict");
  if (child.empty() && name.empty()) return Error(ErrorKind::Invalid, "Either child or node must be specified");
  const block::NodeInfo info = parent.place->thread.run_on([&] { return parent.node->info(); });
  const auto children = parent.place->thread.run_on([&] { return parent.node->children(); });
  if (!child.empty() && std::ranges::find(children, child, &block::Child::role) == children.end())
    return Error(ErrorKind::NotFound, fmt::format("Node '{}' does not have child '{}'", info.node_name, child));
  if (info.driver != "quorum")
    return Error(ErrorKind::Unsupported, fmt::format("The node {} does not support {} a child", info.node_name, child.empty() ? "adding" : "removing"));
  NodePtr node;
  if (!name.empty()) {
    auto located = find_node(c, name);
    if (!located) return Error(ErrorKind::NotFound, fmt::format("Node '{}' not found", name));
    if (located->place != parent.place) return Error(ErrorKind::Unsupported, fmt::format("Node '{}' lives on another I/O thread", name));
    node = located->node;
  }
  return done(finish_on(parent.place->thread, [&] { return change_children(*parent.place, parent.node, child, node); }));
}

/// What an image records, not what it stands on.
Task<Status> change_backing(BlockStore::Place& place, NodePtr node, std::string name) {
  static_cast<void>(co_await place.graph.drain());
  const bool was_readonly = node->info().readonly;
  Status status = co_await node->set_readonly(false);
  if (status) status = co_await node->image()->change_backing(name, node->image()->backing_format());
  if (was_readonly) static_cast<void>(co_await node->set_readonly(true));
  place.graph.resume();
  co_return std::move(status).context(fmt::format("Could not change backing file to '{}'", name));
}

Reply change_backing_file(QmpContext& c, const Json& arguments) {
  const std::string device = text_argument(arguments, "device"), name = text_argument(arguments, "image-node-name");
  auto top = TRY(find_node(c, device));
  auto image = find_node(c, name);
  if (!image) return Error(ErrorKind::Invalid, fmt::format("Cannot find device='' nor node-name='{}'", name));
  TRY(check_idle(top));
  auto& thread = top.place->thread;
  if (!image->node->image() || thread.run_on([&] { return block::backing_of(*image->node) == nullptr; }))
    return Error(ErrorKind::Invalid, "not allowing backing file change on an image without a backing file");
  if (!thread.run_on([&] { return block::is_in_chain(top.node, *image->node); }))
    return Error(ErrorKind::Invalid, fmt::format("'{}' and image file are not in the same chain", device));
  const std::string backing = text_argument(arguments, "backing-file");
  return done(finish_on(thread, [&] { return change_backing(*top.place, image->node, backing); }));
}

Task<Status> resize(BlockStore::Place& place, NodePtr node, u64 size) {
  if (node->info().readonly) co_return Error(ErrorKind::Permission, "Device is read only");
  static_cast<void>(co_await place.graph.drain());
  Status status = co_await node->resize(size, block::Preallocation::Off);
  if (status) {
    for (auto& entry : place.bitmaps)
      if (entry.node.lock() == node) entry.bitmap->resize(size);
    for (block::Root* root : place.graph.roots())
      if (root->node() == node && root->on_resized) root->on_resized();
  }
  place.graph.resume();
  co_return status;
}

Reply block_resize(QmpContext& c, const Json& arguments) {
  auto located = TRY(find_node(c, arguments));
  TRY(check_idle(located));
  auto at = arguments.find("size");
  if (at->is_number_integer() && !at->is_number_unsigned() && at->get<i64>() < 0)
    return Error(ErrorKind::Invalid, "Parameter 'size' expects a >0 size");
  u64 size = number_argument(arguments, "size").value_or(0);
  return done(finish_on(located.place->thread, [&] { return resize(*located.place, located.node, size); }));
}

/// By its own id or that of the device that uses it; nullptr if there is none with a medium.
BlockStore::Drive* drive_of_device(QmpContext& c, const std::string& name) {
  for (BlockStore::Drive& drive : store(c).drives())
    if (drive.root && !name.empty() && (drive.config.id == name || drive.user == name)) return &drive;
  return nullptr;
}

/// The arguments of block_set_io_throttle are -drive's old names.
Reply block_set_io_throttle(QmpContext& c, const Json& arguments) {
  std::string name = text_argument(arguments, "id", text_argument(arguments, "device"));
  BlockStore::Drive* drive = drive_of_device(c, name);
  if (!drive) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", name));
  constexpr std::string_view kNames[] = {"iops", "iops_rd", "iops_wr", "bps", "bps_rd", "bps_wr"};
  block::ThrottleLimits limits;
  for (size_t i = 0; i < std::size(kNames); ++i) {
    std::string key(kNames[i]);
    limits.buckets[i].average = number_argument(arguments, key.c_str()).value_or(0);
    limits.buckets[i].max = number_argument(arguments, (key + "_max").c_str()).value_or(0);
    limits.buckets[i].burst_seconds = number_argument(arguments, (key + "_max_length").c_str()).value_or(1);
  }
  limits.iops_size = number_argument(arguments, "iops_size").value_or(0);
  return done(store(c).set_throttle(*drive, limits, text_argument(arguments, "group")));
}

/// Rising numbers above 0, of nanoseconds.
Result<std::vector<u64>> boundaries_from(const Json& list, const char* key) {
  std::vector<u64> boundaries;
  for (const Json& item : list) {
    const u64 ns = item.is_number_unsigned() ? item.get<u64>() : 0;
    if (ns == 0 || (!boundaries.empty() && ns <= boundaries.back()))
      return Error(ErrorKind::Invalid, fmt::format("{}: rising numbers above 0 are expected", key));
    boundaries.push_back(ns);
  }
  return boundaries;
}

/// What is not named keeps its histogram, unless nothing is named at all.
Reply block_latency_histogram_set(QmpContext& c, const Json& arguments) {
  static constexpr struct {
    const char* key;
    block::OperationStats block::RootStats::*operation;
  } kOperations[] = {{"boundaries-read", &block::RootStats::read}, {"boundaries-write", &block::RootStats::write},
                     {"boundaries-flush", &block::RootStats::flush}};
  BlockStore::Drive* drive = drive_of_device(c, text_argument(arguments, "id"));
  if (!drive) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", text_argument(arguments, "id")));
  const bool clears = arguments.size() == 1;
  for (const auto& [key, operation] : kOperations) {
    auto at = arguments.find(key);
    if (at == arguments.end()) at = arguments.find("boundaries");
    if (at == arguments.end() && !clears) continue;
    auto boundaries = at == arguments.end() ? std::vector<u64>() : TRY(boundaries_from(*at, key));
    drive->place->thread.run_on([&] { drive->root->set_histogram(operation, std::move(boundaries)); });
  }
  return Json::object();
}

Reply block_set_write_threshold(QmpContext& c, const Json& arguments) {
  auto located = TRY(find_node(c, arguments));
  if (!located.drive) return Error(ErrorKind::Unsupported, "a threshold needs a node that a drive or device stands on");
  u64 threshold = number_argument(arguments, "write-threshold").value_or(0);
  machine::Machine& machine = c.vm.machine();
  located.place->thread.run_on([&] {
    block::Root& root = *located.drive->root;
    root.write_threshold = threshold;
    root.on_threshold = [&machine, name = located.node->info().node_name](u64 exceeded, u64 limit) {
      machine.report_write_threshold(name, exceeded, limit);
    };
  });
  return Json::object();
}

constexpr QmpCommand kCommands[] = {
    {"query-block", "", query_block},
    {"query-named-block-nodes", "flat?:b", query_named_block_nodes},
    {"query-blockstats", "query-nodes?:b", query_blockstats},
    {"x-debug-query-block-graph", "", query_block_graph},
    {"blockdev-add", "*", blockdev_add},
    {"blockdev-del", "node-name:s", blockdev_del},
    {"blockdev-reopen", "options:a", blockdev_reopen},
    {"x-blockdev-change", "parent:s child?:s node?:s", x_blockdev_change},
    {"change-backing-file", "device:s image-node-name:s backing-file:s", change_backing_file},
    {"block_resize", "device?:s node-name?:s size:i", block_resize},
    {"block_set_io_throttle",
     "device?:s id?:s bps:i bps_rd:i bps_wr:i iops:i iops_rd:i iops_wr:i bps_max?:i bps_rd_max?:i bps_wr_max?:i iops_max?:i "
     "iops_rd_max?:i iops_wr_max?:i bps_max_length?:i bps_rd_max_length?:i bps_wr_max_length?:i iops_max_length?:i "
     "iops_rd_max_length?:i iops_wr_max_length?:i iops_size?:i group?:s",
     block_set_io_throttle, "DeviceNotFound"},
    {"block-latency-histogram-set", "id:s boundaries?:a boundaries-read?:a boundaries-write?:a boundaries-flush?:a",
     block_latency_histogram_set},
    {"block-set-write-threshold", "node-name:s write-threshold:i", block_set_write_threshold},
};

}  // namespace

std::span<const QmpCommand> block_commands() { return kCommands; }

}  // namespace atl::control
