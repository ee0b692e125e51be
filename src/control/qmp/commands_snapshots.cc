// Snapshots of disks, and transactions of block commands.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "block/image_info.h"
#include "control/qmp/block_support.h"
#include "machine/persistent_bitmaps.h"

namespace atl::control {

using block::NodePtr;

namespace {

/// Writes go to `overlay` from now on; `active` becomes its backing file.
Task<Status> put_overlay(BlockStore::Place& place, NodePtr active, NodePtr overlay) {
  static_cast<void>(co_await place.graph.drain());
  Status status = co_await active->flush();
  if (status && block::backing_of(*overlay) != active) status = overlay->replace_child("backing", active);
  if (status) status = place.graph.replace(*active, overlay);
  // A backing file is written by nobody: others may open it, too. Where the format cannot change, it just stays as it is.
  if (status) status = co_await machine::store_bitmaps(place, active);
  if (status) static_cast<void>(co_await active->set_readonly(true));
  place.graph.resume();
  co_return status;
}

Task<Status> take_overlay_off(BlockStore::Place& place, NodePtr active, NodePtr overlay) {
  static_cast<void>(co_await place.graph.drain());
  Status status = co_await active->set_readonly(false);
  if (status) status = place.graph.replace(*overlay, active);
  place.graph.resume();
  co_return status;
}

Result<Undo> stack(const BlockStore::Located& located, NodePtr overlay) {
  BlockStore::Place& place = *located.place;
  TRY(finish_on(place.thread, [&] { return put_overlay(place, located.node, overlay); }));
  return Undo([&place, active = located.node, overlay] {
    static_cast<void>(finish_on(place.thread, [&] { return take_overlay_off(place, active, overlay); }));
  });
}

}  // namespace

Result<Undo> snapshot_sync(QmpContext& c, const Json& arguments) {
  if (arguments.contains("node-name") && !arguments.contains("snapshot-node-name") && !arguments.contains("device"))
    return Error(ErrorKind::Invalid, "New overlay node-name missing");
  auto located = TRY(find_node(c, arguments));
  TRY(check_idle(located));
  const std::string overlay_name = text_argument(arguments, "snapshot-node-name");
  if (!overlay_name.empty() && find_node(c, overlay_name)) return Error(ErrorKind::Exists, "New overlay node-name already in use");
  NewImage image;
  image.filename = text_argument(arguments, "snapshot-file");
  image.format = text_argument(arguments, "format", "qcow2");
  image.node_name = overlay_name;
  std::string mode = text_argument(arguments, "mode", "absolute-paths");
  if (mode != "absolute-paths" && mode != "existing")
    return Error(ErrorKind::Invalid, fmt::format("Invalid parameter '{}'", mode));
  image.create = mode == "absolute-paths";
  image.backed = true;
  NodePtr overlay = TRY(finish_on(located.place->thread, [&] { return open_new_image(located.place->graph, located.node, image); }));
  return stack(located, std::move(overlay));
}

namespace {

/// Nobody may see it yet, and nothing may stand below it.
Status check_overlay(const BlockStore::Located& below, const BlockStore::Located& overlay) {
  BlockStore::Place& place = *overlay.place;
  const bool is_seen = place.thread.run_on([&] {
    return std::ranges::any_of(place.graph.roots(), [&](const block::Root* root) { return block::is_in_chain(root->node(), *overlay.node); });
  });
  if (overlay.drive || is_seen)
    return Error(ErrorKind::Busy, "The overlay is already in use");
  if (overlay.node->is_filter()) return Error(ErrorKind::Unsupported, "Filters cannot be used as overlays");
  if (place.thread.run_on([&] { return block::is_in_chain(below.node, *overlay.node); }))
    return Error(ErrorKind::Invalid, fmt::format("Making '{}' a backing child of '{}' would create a cycle", below.node->info().node_name,
                                                 overlay.node->info().node_name));
  if (place.thread.run_on([&] { return block::backing_of(*overlay.node) != nullptr; }))
    return Error(ErrorKind::Invalid, "The overlay already has a backing image");
  const block::Driver* driver = block::find_driver(overlay.node->info().driver);
  if (!driver || !driver->supports_backing) return Error(ErrorKind::Unsupported, "The overlay does not support backing images");
  return {};
}

}  // namespace

Result<Undo> snapshot(QmpContext& c, const Json& arguments) {
  auto located = TRY(find_node(c, text_argument(arguments, "node")));
  auto overlay = TRY(find_node(c, text_argument(arguments, "overlay")));
  TRY(check_idle(located));
  TRY(check_idle(overlay));
  TRY(check_overlay(located, overlay));
  if (overlay.place != located.place) {
    std::string name = overlay.node->info().node_name;
    overlay.node.reset();
    TRY(store(c).move(name, *located.place));
    overlay = TRY(find_node(c, name));
  }
  return stack(located, overlay.node);
}

namespace {

Task<Status> take_internal(BlockStore::Place& place, NodePtr node, block::SnapshotInfo snapshot) {
  static_cast<void>(co_await place.graph.drain());
  Status status = co_await node->flush();
  if (status) status = co_await node->image()->create_snapshot(std::move(snapshot));
  place.graph.resume();
  co_return status;
}

Task<Result<block::SnapshotInfo>> find_internal(NodePtr node, std::string id, std::string name) {
  Result<std::vector<block::SnapshotInfo>> found = co_await node->image()->snapshots();
  std::vector<block::SnapshotInfo> list = CO_TRY(std::move(found));
  for (const block::SnapshotInfo& s : list)
    if ((id.empty() || s.id == id) && (name.empty() || s.name == name)) co_return s;
  co_return Error(ErrorKind::NotFound, fmt::format("Snapshot with id '{}' and name '{}' does not exist on device '{}'",
                                                   id.empty() ? "null" : id, name.empty() ? "null" : name, node->info().node_name));
}

Task<Status> delete_internal(BlockStore::Place& place, NodePtr node, std::string id) {
  static_cast<void>(co_await place.graph.drain());
  Status status = co_await node->image()->delete_snapshot(std::move(id));
  place.graph.resume();
  co_return status;
}

Result<BlockStore::Located> find_image(QmpContext& c, const Json& arguments) {
  auto located = TRY(find_node(c, arguments));
  TRY(check_idle(located));
  if (!located.node->image())
    return Error(ErrorKind::Unsupported, fmt::format("Block format '{}' used by device '{}' does not support internal snapshots",
                                                     located.node->info().driver, text_argument(arguments, "device")));
  return located;
}

}  // namespace

Result<Undo> snapshot_internal(QmpContext& c, const Json& arguments) {
  auto located = TRY(find_image(c, arguments));
  block::SnapshotInfo info;
  info.name = text_argument(arguments, "name");
  if (info.name.empty()) return Error(ErrorKind::Invalid, "Name is empty");
  auto exists = finish_on(located.place->thread, [&] { return find_internal(located.node, {}, info.name); });
  if (exists)
    return Error(ErrorKind::Exists, fmt::format("Snapshot with name '{}' already exists on device '{}'", info.name,
                                                text_argument(arguments, "device")));
  const u64 now = static_cast<u64>(std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
  info.date_seconds = now / 1'000'000'000;
  info.date_nanoseconds = static_cast<u32>(now % 1'000'000'000);
  info.disk_bytes = located.node->size_bytes();
  BlockStore::Place& place = *located.place;
  TRY(finish_on(place.thread, [&] { return take_internal(place, located.node, info); }));
  return Undo([&place, node = located.node, name = info.name] {
    static_cast<void>(finish_on(place.thread, [&] { return delete_internal(place, node, name); }));
  });
}

namespace {

Reply blockdev_snapshot_sync(QmpContext& c, const Json& arguments) {
  TRY(snapshot_sync(c, arguments));
  return Json::object();
}
Reply blockdev_snapshot(QmpContext& c, const Json& arguments) {
  TRY(snapshot(c, arguments));
  return Json::object();
}
Reply blockdev_snapshot_internal_sync(QmpContext& c, const Json& arguments) {
  TRY(snapshot_internal(c, arguments));
  return Json::object();
}

Reply blockdev_snapshot_delete_internal_sync(QmpContext& c, const Json& arguments) {
  auto located = TRY(find_image(c, arguments));
  std::string id = text_argument(arguments, "id"), name = text_argument(arguments, "name");
  if (id.empty() && name.empty()) return Error(ErrorKind::Invalid, "Name or id must be provided");
  auto& thread = located.place->thread;
  block::SnapshotInfo found = TRY(finish_on(thread, [&] { return find_internal(located.node, id, name); }));
  TRY(finish_on(thread, [&] { return delete_internal(*located.place, located.node, found.id); }));
  return block::snapshot_json(found);
}

// --- transactions ---

Result<Undo> abort_transaction(QmpContext&, const Json&) { return Error(ErrorKind::Cancelled, "Transaction aborted using Abort action"); }

struct Action {
  std::string_view type;
  std::string_view arguments;
  Result<Undo> (*carry_out)(QmpContext&, const Json&);
};
constexpr std::string_view kSnapshotSync = "device?:s node-name?:s snapshot-file:s snapshot-node-name?:s format?:s mode?:s";
constexpr Action kActions[] = {
    {"abort", "", abort_transaction},
    {"blockdev-snapshot-sync", kSnapshotSync, snapshot_sync},
    {"blockdev-snapshot", "node:s overlay:s", snapshot},
    {"blockdev-snapshot-internal-sync", "device:s name:s", snapshot_internal},
    {"blockdev-backup", "*", start_blockdev_backup},
    {"drive-backup", "*", start_drive_backup},
    {"block-dirty-bitmap-add", "*", bitmap_add},
    {"block-dirty-bitmap-remove", "*", bitmap_remove},
    {"block-dirty-bitmap-clear", "*", bitmap_clear},
    {"block-dirty-bitmap-enable", "*", bitmap_enable},
    {"block-dirty-bitmap-disable", "*", bitmap_disable},
    {"block-dirty-bitmap-merge", "*", bitmap_merge},
};

Result<Undo> carry_out(QmpContext& c, const Json& action) {
  std::string type = action.is_object() ? text_argument(action, "type") : "";
  for (const Action& known : kActions) {
    if (known.type != type) continue;
    auto data = action.find("data");
    Json arguments = data == action.end() ? Json::object() : *data;
    if (!arguments.is_object()) return Error(ErrorKind::Invalid, "Invalid parameter type for 'data', expected: object");
    TRY(check_arguments({known.type, known.arguments, nullptr}, arguments));
    return known.carry_out(c, arguments);
  }
  return Error(ErrorKind::Invalid, fmt::format("Invalid parameter '{}'", type));
}

Task<Status> drain(BlockStore::Place* place) { return place->graph.drain(); }

/// All or nothing, and of one moment: the guests' requests wait meanwhile.
Reply transaction(QmpContext& c, const Json& arguments) {
  std::vector<Undo> undos;
  Status status;
  auto places = store(c).places();
  for (BlockStore::Place* place : places) static_cast<void>(finish_on(place->thread, [&] { return drain(place); }));
  for (const Json& action : arguments["actions"]) {
    auto carried_out = carry_out(c, action);
    if (!carried_out) {
      status = std::move(carried_out).error();
      break;
    }
    undos.push_back(std::move(*carried_out));
  }
  if (!status) {
    for (auto undo = undos.rbegin(); undo != undos.rend(); ++undo)
      if (*undo) (*undo)();
  }
  undos.clear();
  for (BlockStore::Place* place : places) place->thread.run_on([&] { place->graph.resume(); });
  return done(std::move(status));
}

constexpr QmpCommand kCommands[] = {
    {"blockdev-snapshot-sync", kSnapshotSync, blockdev_snapshot_sync},
    {"blockdev-snapshot", "node:s overlay:s", blockdev_snapshot},
    {"blockdev-snapshot-internal-sync", "device:s name:s", blockdev_snapshot_internal_sync},
    {"blockdev-snapshot-delete-internal-sync", "device:s id?:s name?:s", blockdev_snapshot_delete_internal_sync},
    {"transaction", "actions:a properties?:o", transaction},
};

}  // namespace

std::span<const QmpCommand> snapshot_commands() { return kCommands; }

}  // namespace atl::control
