// Starting block jobs.
#include <fmt/format.h>

#include <algorithm>

#include "block/job/replacing.h"
#include "control/qmp/job_support.h"

namespace atl::control {

using block::NodePtr;

namespace {

/// A node by its own name. The error is none about devices.
Result<NodePtr> named_node(QmpContext& c, const std::string& name) {
  auto located = find_node(c, name);
  if (located) return located->node;
  return Error(ErrorKind::Invalid, fmt::format("Cannot find device='' nor node-name='{}'", name));
}

/// The backing file below `top` that is called so.
NodePtr below_by_file(BlockStore::Place& place, const NodePtr& top, const std::string& file) {
  return place.thread.run_on([&] { return find_in_chain(place.graph, top, file); });
}

bool chain_contains(BlockStore::Place& place, const NodePtr& top, const NodePtr& node) {
  return place.thread.run_on([&] { return block::is_in_chain(top, *node); });
}

Status check_not_both(const Json& arguments, const char* a, const char* b, std::string_view problem) {
  if (!arguments.contains(a) || !arguments.contains(b)) return {};
  return Error(ErrorKind::Invalid, fmt::format("'{}' and '{}' {}", a, b, problem));
}

/// What a stream leaves below: "base" (a file), "base-node", or what "bottom" stands on.
Result<NodePtr> stream_base(QmpContext& c, const BlockStore::Located& top, const Json& arguments) {
  constexpr std::string_view kTogether = "cannot be specified at the same time";
  TRY(check_not_both(arguments, "base", "base-node", kTogether));
  TRY(check_not_both(arguments, "base", "bottom", kTogether));
  TRY(check_not_both(arguments, "bottom", "base-node", kTogether));
  const std::string device = text_argument(arguments, "device");
  if (arguments.contains("base")) {
    const std::string file = text_argument(arguments, "base");
    if (NodePtr found = below_by_file(*top.place, top.node, file)) return found;
    return Error(ErrorKind::Invalid, fmt::format("Can't find '{}' in the backing chain", file));
  }
  if (arguments.contains("base-node")) {
    const std::string name = text_argument(arguments, "base-node");
    NodePtr base = TRY(named_node(c, name));
    if (base != top.node && chain_contains(*top.place, top.node, base)) return base;
    return Error(ErrorKind::Invalid, fmt::format("Node '{}' is not a backing image of '{}'", name, device));
  }
  if (!arguments.contains("bottom")) return NodePtr();
  const std::string name = text_argument(arguments, "bottom");
  NodePtr bottom = TRY(named_node(c, name));
  if (bottom->is_filter())
    return Error(ErrorKind::Invalid, fmt::format("Node '{}' is a filter, use a non-filter node as 'bottom'", name));
  if (!chain_contains(*top.place, top.node, bottom))
    return Error(ErrorKind::Invalid, fmt::format("Node '{}' is not in a chain starting from '{}'", name, device));
  return top.place->thread.run_on([&] { return block::backing_of(*bottom); });
}

std::optional<std::string> backing_name(const Json& arguments) {
  if (!arguments.contains("backing-file")) return std::nullopt;
  return text_argument(arguments, "backing-file");
}

/// What a commit is taking out of a chain can be no stream's end.
Status check_not_frozen(BlockStore::Place& place, const NodePtr& base) {
  if (!base) return {};
  return place.thread.run_on([&]() -> Status {
    JobPtr user = place.jobs.user_of(*base);
    if (!user || user->type() != "commit" || user->nodes().back() == base.get()) return {};
    return Error(ErrorKind::Busy, fmt::format("Cannot freeze 'backing' link to '{}'", user->top_name()));
  });
}

Reply block_stream(QmpContext& c, const Json& arguments) {
  const std::string device = text_argument(arguments, "device");
  auto located = TRY(find_node(c, device));
  TRY(check_idle(located));
  block::StreamOptions stream;
  stream.top = located.node;
  stream.base = TRY(stream_base(c, located, arguments));
  TRY(check_not_frozen(*located.place, stream.base));
  stream.backing_name = backing_name(arguments);
  if (stream.backing_name && !stream.base) return Error(ErrorKind::Invalid, "backing file specified, but streaming the entire chain");
  auto options = TRY(job_options(c, arguments, device));
  TRY(start_job(c, *located.place, [&] { return block::make_stream_job(located.place->graph, device, options, stream); }));
  return Json::object();
}

NodePtr bottom_of(NodePtr node) {
  while (NodePtr below = block::backing_of(*node)) node = below;
  return node;
}

Result<NodePtr> commit_top(QmpContext& c, const BlockStore::Located& located, const Json& arguments) {
  TRY(check_not_both(arguments, "top-node", "top", "are mutually exclusive"));
  if (arguments.contains("top-node")) {
    const std::string name = text_argument(arguments, "top-node");
    NodePtr top = TRY(named_node(c, name));
    if (chain_contains(*located.place, located.node, top)) return top;
    return Error(ErrorKind::Invalid, fmt::format("'{}' is not in this backing file chain", name));
  }
  if (!arguments.contains("top")) return located.node;
  const std::string file = text_argument(arguments, "top");
  if (located.place->thread.run_on([&] { return located.place->graph.name_of(*located.node) == file; })) return located.node;
  if (NodePtr top = below_by_file(*located.place, located.node, file)) return top;
  return Error(ErrorKind::Invalid, fmt::format("Top image file {} not found", file));
}

Result<NodePtr> commit_base(QmpContext& c, BlockStore::Place& place, const NodePtr& top, const Json& arguments) {
  TRY(check_not_both(arguments, "base-node", "base", "are mutually exclusive"));
  if (arguments.contains("base-node")) {
    const std::string name = text_argument(arguments, "base-node");
    NodePtr base = TRY(named_node(c, name));
    if (chain_contains(place, top, base)) return base;
    return Error(ErrorKind::Invalid, fmt::format("'{}' is not in this backing file chain", name));
  }
  if (!arguments.contains("base")) return place.thread.run_on([&] { return bottom_of(top); });
  const std::string file = text_argument(arguments, "base");
  if (NodePtr base = below_by_file(place, top, file)) return base;
  return Error(ErrorKind::Invalid, fmt::format("Can't find '{}' in the backing chain", file));
}

Reply block_commit(QmpContext& c, const Json& arguments) {
  const std::string device = text_argument(arguments, "device");
  auto located = TRY(find_node(c, device));
  block::CommitOptions commit;
  commit.active = located.node;
  commit.top = TRY(commit_top(c, located, arguments));
  commit.base = TRY(commit_base(c, *located.place, commit.top, arguments));
  commit.backing_name = backing_name(arguments);
  if (commit.base == commit.top) return Error(ErrorKind::Invalid, fmt::format("cannot commit an image into itself"));
  if (commit.backing_name && commit.top == commit.active)
    return Error(ErrorKind::Invalid, "'backing-file' specified, but 'top' is the active layer");
  auto options = TRY(job_options(c, arguments, device));
  TRY(start_job(c, *located.place, [&] { return block::make_commit_job(located.place->graph, device, options, commit); }));
  return Json::object();
}

Result<block::SyncMode> sync_mode(const Json& arguments) {
  std::string sync = text_argument(arguments, "sync");
  if (sync == "full") return block::SyncMode::Full;
  if (sync == "top") return block::SyncMode::Top;
  if (sync == "none") return block::SyncMode::None;
  if (sync == "incremental" || sync == "bitmap") return block::SyncMode::Incremental;
  return Error(ErrorKind::Invalid, fmt::format("Invalid parameter '{}'", sync));
}

/// The other node of a job, brought into the same graph.
Result<NodePtr> target_node(QmpContext& c, const BlockStore::Located& source, const std::string& name) {
  auto target = TRY(find_node(c, name));
  if (target.drive && target.drive->user.size()) return Error(ErrorKind::Busy, fmt::format("Node {} is in use", name));
  if (target.place == source.place) return target.node;
  target.node.reset();
  TRY(store(c).move(name, *source.place));
  return TRY(find_node(c, name)).node;
}

Result<NodePtr> replaced_node(QmpContext& c, const BlockStore::Located& source, const std::string& name) {
  auto found = find_node(c, name);
  if (!found) return Error(ErrorKind::Invalid, fmt::format("Failed to find node with node-name='{}'", name));
  BlockStore::Place& place = *source.place;
  return place.thread.run_on([&]() -> Result<NodePtr> {
    if (!block::can_replace(place.graph, *source.node, *found->node))
      return Error(ErrorKind::Invalid,
                   fmt::format("Cannot replace '{}' by a node mirrored from '{}', because it cannot be guaranteed that doing so would not "
                               "lead to an abrupt change of visible data", name, source.node->info().node_name));
    if (found->node->size_bytes() != source.node->size_bytes())
      return Error(ErrorKind::Invalid, "cannot replace image with a mirror image of different size");
    return found->node;
  });
}

Result<block::MirrorOptions> mirror_options(QmpContext& c, const BlockStore::Located& source, const Json& arguments) {
  block::MirrorOptions mirror;
  mirror.source = source.node;
  mirror.sync = TRY(sync_mode(arguments));
  const bool is_backed = source.place->thread.run_on([&] { return block::backing_of(*source.node) != nullptr; });
  if (mirror.sync == block::SyncMode::Top && !is_backed) mirror.sync = block::SyncMode::Full;
  if (mirror.sync == block::SyncMode::Incremental) return Error(ErrorKind::Invalid, "Sync mode 'incremental' not supported");
  mirror.granularity = static_cast<u32>(std::min<u64>(number_argument(arguments, "granularity").value_or(0), ~u32{0}));
  std::string copy_mode = text_argument(arguments, "copy-mode", "background");
  if (copy_mode != "background" && copy_mode != "write-blocking")
    return Error(ErrorKind::Invalid, fmt::format("Parameter 'copy-mode' does not accept value '{}'", copy_mode));
  mirror.write_blocking = copy_mode == "write-blocking";
  if (arguments.contains("replaces")) mirror.replaces = TRY(replaced_node(c, source, text_argument(arguments, "replaces")));
  return mirror;
}

Reply blockdev_mirror(QmpContext& c, const Json& arguments) {
  const std::string device = text_argument(arguments, "device");
  auto located = TRY(find_node(c, device));
  TRY(check_idle(located));
  auto options = TRY(job_options(c, arguments, device));
  block::MirrorOptions mirror = TRY(mirror_options(c, located, arguments));
  mirror.target = TRY(target_node(c, located, text_argument(arguments, "target")));
  TRY(start_job(c, *located.place, [&] { return block::make_mirror_job(located.place->graph, device, options, mirror); }));
  return Json::object();
}

/// The image that drive-mirror and drive-backup make or open.
Result<NodePtr> new_target(const BlockStore::Located& source, const Json& arguments, block::SyncMode sync) {
  NewImage image;
  image.filename = text_argument(arguments, "target");
  image.format = text_argument(arguments, "format");
  image.node_name = text_argument(arguments, "node-name");
  image.size_bytes = source.node->size_bytes();
  std::string mode = text_argument(arguments, "mode", "absolute-paths");
  if (mode != "absolute-paths" && mode != "existing") return Error(ErrorKind::Invalid, fmt::format("Invalid parameter '{}'", mode));
  image.create = mode == "absolute-paths";
  if (image.create && image.format.empty()) image.format = block::below_filters(source.node)->info().driver;
  image.backed = sync == block::SyncMode::Top || sync == block::SyncMode::None;
  NodePtr base = source.node;
  if (sync == block::SyncMode::Top) {
    base = source.place->thread.run_on([&] { return block::backing_of(*source.node); });
    if (!base) {
      base = source.node;
      image.backed = false;
    }
  }
  return finish_on(source.place->thread, [&] { return open_new_image(source.place->graph, base, image); });
}

Reply drive_mirror(QmpContext& c, const Json& arguments) {
  const std::string device = text_argument(arguments, "device");
  auto located = TRY(find_node(c, device));
  TRY(check_idle(located));
  auto options = TRY(job_options(c, arguments, device));
  if (arguments.contains("replaces") && !arguments.contains("node-name"))
    return Error(ErrorKind::Invalid, "a node-name must be provided when replacing a named node of the graph");
  block::MirrorOptions mirror = TRY(mirror_options(c, located, arguments));
  mirror.target = TRY(new_target(located, arguments, mirror.sync));
  mirror.target_is_zero = text_argument(arguments, "mode", "absolute-paths") == "absolute-paths" && mirror.sync == block::SyncMode::Full;
  TRY(start_job(c, *located.place, [&] { return block::make_mirror_job(located.place->graph, device, options, mirror); }));
  return Json::object();
}

Result<block::BackupOptions> backup_options(const BlockStore::Located& source, const Json& arguments) {
  block::BackupOptions backup;
  backup.source = source.node;
  backup.sync = TRY(sync_mode(arguments));
  backup.compressed = flag_argument(arguments, "compress", false);
  std::string name = text_argument(arguments, "bitmap");
  std::string mode = text_argument(arguments, "bitmap-mode", "on-success");
  using Mode = block::BackupOptions::BitmapMode;
  backup.bitmap_mode = mode == "never" ? Mode::Never : mode == "always" ? Mode::Always : Mode::OnSuccess;
  if (mode != "on-success" && mode != "never" && mode != "always") return Error(ErrorKind::Invalid, fmt::format("Invalid parameter '{}'", mode));
  if (name.empty()) return backup;
  if (backup.sync != block::SyncMode::Incremental)
    return Error(ErrorKind::Unsupported, "a bitmap is supported with sync modes 'incremental' and 'bitmap' only");
  source.place->thread.run_on([&] {
    if (auto* entry = source.place->find_bitmap_entry(*source.node, name)) backup.bitmap = entry->bitmap;
  });
  if (!backup.bitmap) return Error(ErrorKind::NotFound, fmt::format("Bitmap '{}' could not be found", name));
  return backup;
}

Result<Undo> start_backup(QmpContext& c, const BlockStore::Located& located, const Json& arguments, block::BackupOptions backup) {
  const std::string device = text_argument(arguments, "device");
  auto options = TRY(job_options(c, arguments, device));
  return start_job(c, *located.place, [&] { return block::make_backup_job(located.place->graph, device, options, backup); });
}

}  // namespace

Result<Undo> start_blockdev_backup(QmpContext& c, const Json& arguments) {
  TRY(check_arguments({"", "job-id?:s device:s target:s sync:s speed?:i bitmap?:s bitmap-mode?:s compress?:b on-source-error?:s "
                           "on-target-error?:s filter-node-name?:s auto-finalize?:b auto-dismiss?:b", nullptr}, arguments));
  auto located = TRY(find_node(c, text_argument(arguments, "device")));
  TRY(check_idle(located));
  auto backup = TRY(backup_options(located, arguments));
  backup.target = TRY(target_node(c, located, text_argument(arguments, "target")));
  return start_backup(c, located, arguments, std::move(backup));
}

Result<Undo> start_drive_backup(QmpContext& c, const Json& arguments) {
  TRY(check_arguments({"", "job-id?:s device:s target:s format?:s mode?:s sync:s speed?:i bitmap?:s bitmap-mode?:s compress?:b "
                           "on-source-error?:s on-target-error?:s filter-node-name?:s auto-finalize?:b auto-dismiss?:b", nullptr}, arguments));
  auto located = TRY(find_node(c, text_argument(arguments, "device")));
  TRY(check_idle(located));
  auto backup = TRY(backup_options(located, arguments));
  backup.target = TRY(new_target(located, arguments, backup.sync));
  backup.target_is_zero = text_argument(arguments, "mode", "absolute-paths") == "absolute-paths" && backup.sync == block::SyncMode::Full;
  return start_backup(c, located, arguments, std::move(backup));
}

namespace {

Reply blockdev_backup(QmpContext& c, const Json& arguments) {
  TRY(start_blockdev_backup(c, arguments));
  return Json::object();
}
Reply drive_backup(QmpContext& c, const Json& arguments) {
  TRY(start_drive_backup(c, arguments));
  return Json::object();
}

constexpr QmpCommand kCommands[] = {
    {"block-stream", "job-id?:s device:s base?:s base-node?:s backing-file?:s bottom?:s on-error?:s speed?:i filter-node-name?:s "
     "auto-finalize?:b auto-dismiss?:b",
     block_stream},
    {"block-commit",
     "job-id?:s device:s base?:s base-node?:s top?:s top-node?:s backing-file?:s on-error?:s speed?:i "
     "filter-node-name?:s auto-finalize?:b auto-dismiss?:b",
     block_commit, "DeviceNotFound"},
    {"blockdev-mirror",
     "job-id?:s device:s target:s sync:s replaces?:s granularity?:i buf-size?:i copy-mode?:s on-source-error?:s on-target-error?:s "
     "speed?:i filter-node-name?:s auto-finalize?:b auto-dismiss?:b",
     blockdev_mirror},
    {"drive-mirror",
     "job-id?:s device:s target:s format?:s mode?:s node-name?:s sync:s replaces?:s granularity?:i buf-size?:i copy-mode?:s "
     "on-source-error?:s on-target-error?:s unmap?:b speed?:i auto-finalize?:b auto-dismiss?:b",
     drive_mirror},
    {"blockdev-backup", "*", blockdev_backup},
    {"drive-backup", "*", drive_backup},
    {"blockdev-create", "job-id:s options:o", blockdev_create},
};

}  // namespace

std::span<const QmpCommand> job_commands() { return kCommands; }

}  // namespace atl::control
