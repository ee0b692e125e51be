// Block jobs: starting, watching and steering them.
#include <fmt/format.h>

#include <algorithm>

#include "block/job/create_job.h"
#include "block/job/replacing.h"
#include "control/cmdline/translate.h"
#include "control/qmp/block_support.h"

namespace atl::control {

using block::Job;
using block::JobInfo;
using block::JobState;
using block::NodePtr;

namespace {

using JobPtr = std::shared_ptr<Job>;

/// What failed requests lead to; unchanged if nothing is said.
Status take_policy(const Json& arguments, const char* key, block::ErrorPolicy& policy) {
  static constexpr std::pair<std::string_view, block::ErrorPolicy> kNames[] = {
      {"report", block::ErrorPolicy::Report},          {"ignore", block::ErrorPolicy::Ignore}, {"stop", block::ErrorPolicy::Stop},
      {"enospc", block::ErrorPolicy::StopOnNoSpace}, {"auto", block::ErrorPolicy::StopOnNoSpace}};
  const std::string name = text_argument(arguments, key);
  if (name.empty()) return {};
  for (const auto& [known, value] : kNames)
    if (known == name) {
      policy = value;
      return {};
    }
  return Error(ErrorKind::Invalid, fmt::format("Parameter '{}' does not accept value '{}'", key, name));
}

bool is_id_taken(QmpContext& c, const std::string& id) {
  for (BlockStore::Place* place : store(c).places())
    if (place->thread.run_on([&] { return place->jobs.find(id) != nullptr; })) return true;
  return false;
}

/// Bytes a second.
Result<u64> speed_argument(const Json& arguments) {
  auto at = arguments.find("speed");
  if (at != arguments.end() && at->is_number_integer() && !at->is_number_unsigned())
    return Error(ErrorKind::Invalid, "Parameter 'speed' expects a non-negative value");
  return number_argument(arguments, "speed").value_or(0);
}

Result<block::JobOptions> job_options(QmpContext& c, const Json& arguments, const std::string& device) {
  block::JobOptions options;
  TRY(take_policy(arguments, "on-error", options.on_source_error));
  TRY(take_policy(arguments, "on-source-error", options.on_source_error));
  options.on_target_error = arguments.contains("on-error") ? options.on_source_error : options.on_target_error;
  TRY(take_policy(arguments, "on-target-error", options.on_target_error));
  options.id = text_argument(arguments, "job-id");
  if (!arguments.contains("job-id")) {
    auto located = find_node(c, device);
    options.id = located ? store(c).drive_of(*located->node) : "";
  }
  options.filter_name = text_argument(arguments, "filter-node-name");
  if (!is_well_formed_id(options.id)) return Error(ErrorKind::Invalid, fmt::format("Invalid job ID '{}'", options.id));
  if (is_id_taken(c, options.id)) return Error(ErrorKind::Exists, fmt::format("Job ID '{}' already in use", options.id));
  options.speed = TRY(speed_argument(arguments));
  options.auto_finalize = flag_argument(arguments, "auto-finalize", true);
  options.auto_dismiss = flag_argument(arguments, "auto-dismiss", true);
  return options;
}

Task<Status> add_job(BlockStore::Place& place, JobPtr job, Job::Listener listener) {
  co_return co_await place.jobs.add(place.graph, std::move(job), std::move(listener));
}

/// Makes a job with `make` and starts it, on the loop of `place`.
template <class F>
Result<Undo> start_job(QmpContext& c, BlockStore::Place& place, F make) {
  // A job that is no more lets go of its nodes at once: others may wait for their files.
  auto listener = [told = store(c).job_listener(), &place](const block::JobEvent& event) {
    told(event);
    if (event.job.state == JobState::Null) place.thread.loop().post([&place] { place.jobs.reap(); });
  };
  JobPtr job = TRY(place.thread.run_on([&]() -> Result<JobPtr> {
    place.jobs.reap();
    return make();
  }));
  Status added = finish_on(place.thread, [&] { return add_job(place, job, listener); });
  std::weak_ptr<Job> weak = job;
  place.thread.run_on([&] { job.reset(); });
  TRY(std::move(added));
  return Undo([&place, weak] {
    place.thread.run_on([&] {
      if (JobPtr running = weak.lock(); running && !running->is_over()) static_cast<void>(running->cancel(true));
    });
  });
}

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

/// QMP's names of options are those of the command line with other dashes; "version" is "compat" there.
Json create_options_of(const Json& options) {
  Json named = Json::object();
  for (const auto& [key, value] : options.items()) {
    if (key == "driver" || key == "file" || key == "filename" || key == "location") continue;
    if (value.is_object()) {
      for (const auto& [inner, text] : value.items()) named[fmt::format("{}.{}", key, inner)] = text;
      continue;
    }
    std::string name = key == "version" ? "compat" : key;
    std::ranges::replace(name, '-', '_');
    named[name] = value;
  }
  return named;
}

Task<Result<NodePtr>> open_file_of_image(block::Graph& graph, Json file) {
  block::OpenMode mode;
  mode.no_probe = true;
  mode.discard = true;
  co_return co_await graph.open(std::move(file), std::move(mode));
}

/// A format is made on a node that is there already, or is opened for it; a protocol makes what "filename" says.
Reply blockdev_create(QmpContext& c, const Json& arguments) {
  const Json& options = arguments["options"];
  const std::string driver = text_argument(options, "driver");
  block::JobOptions job = TRY(job_options(c, arguments, ""));
  job.auto_dismiss = false;
  block::CreateOptions create;
  create.driver = block::find_driver(driver);
  if (!create.driver) return Error(ErrorKind::Invalid, fmt::format("Parameter 'driver' does not accept value '{}'", driver));
  create.options = create_options_of(options);
  create.filename = text_argument(options, "filename");
  BlockStore::Place* place = store(c).places().front();
  auto file = options.find("file");
  if (create.driver->protocol && create.filename.empty()) return Error(ErrorKind::Invalid, "Parameter 'filename' is missing");
  if (!create.driver->protocol && file == options.end()) return Error(ErrorKind::Invalid, "Parameter 'file' is missing");
  if (file != options.end() && file->is_string()) {
    auto located = TRY(find_node(c, file->get<std::string>()));
    TRY(check_idle(located));
    place = located.place;
    create.file = located.node;
  } else if (file != options.end()) {
    Json tree = *file;
    create.file = TRY(finish_on(place->thread, [&] { return open_file_of_image(place->graph, tree); }));
  }
  TRY(start_job(c, *place, [&] { return block::make_create_job(place->graph, job, std::move(create)); }));
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

// --- watching and steering ---

Json block_job_json(const JobInfo& job) {
  static constexpr const char* kIoStatus[] = {"ok", "failed", "nospace"};
  Json json = {{"type", job.type}, {"device", job.id}, {"len", job.total}, {"offset", job.done}, {"busy", job.busy},
               {"paused", job.paused}, {"speed", job.speed}, {"io-status", kIoStatus[static_cast<size_t>(job.io_status)]}, {"ready", job.ready},
               {"status", block::job_state_name(job.state)}, {"auto-finalize", job.auto_finalize}, {"auto-dismiss", job.auto_dismiss}};
  if (!job.error.empty()) json["error"] = job.error;
  return json;
}

Json job_json(const JobInfo& job) {
  Json json = {{"id", job.id}, {"type", job.type}, {"status", block::job_state_name(job.state)},
               {"current-progress", job.done}, {"total-progress", job.total}};
  if (!job.error.empty()) json["error"] = job.error;
  return json;
}

/// Making an image is a job, but no block job: nothing is copied.
bool is_block_job(const JobInfo& job) { return job.type != "create"; }
bool is_any_job(const JobInfo&) { return true; }

Json list_jobs(QmpContext& c, bool (*wanted)(const JobInfo&), Json (*form)(const JobInfo&)) {
  Json list = Json::array();
  for (BlockStore::Place* place : store(c).places())
    place->thread.run_on([&] {
      for (const JobPtr& job : place->jobs.list()) {
        const JobInfo info = job->info();
        if (info.state != JobState::Null && wanted(info)) list.push_back(form(info));
      }
    });
  return list;
}

Reply query_block_jobs(QmpContext& c, const Json&) { return list_jobs(c, is_block_job, block_job_json); }
Reply query_jobs(QmpContext& c, const Json&) { return list_jobs(c, is_any_job, job_json); }

template <class F>
Reply steer(QmpContext& c, const std::string& id, F ask) {
  for (BlockStore::Place* place : store(c).places()) {
    std::optional<Status> status = place->thread.run_on([&]() -> std::optional<Status> {
      JobPtr job = place->jobs.find(id);
      if (!job) return std::nullopt;
      return ask(*job);
    });
    if (status) return done(std::move(*status));
  }
  return Error(ErrorKind::NotFound, fmt::format("Block job '{}' not found", id));
}

std::string job_of(const Json& arguments) { return text_argument(arguments, "device", text_argument(arguments, "id")); }

Reply job_pause(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.pause(); });
}
Reply job_resume(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.resume(); });
}
Reply job_complete(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.complete(); });
}
Reply job_finalize(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.finalize(); });
}
Reply job_dismiss(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.dismiss(); });
}
Reply job_cancel(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.cancel(true); });
}
Reply block_job_cancel(QmpContext& c, const Json& arguments) {
  const bool force = flag_argument(arguments, "force", false);
  return steer(c, job_of(arguments), [=](Job& job) { return job.cancel(force); });
}
Reply block_job_set_speed(QmpContext& c, const Json& arguments) {
  const u64 speed = TRY(speed_argument(arguments));
  return steer(c, job_of(arguments), [=](Job& job) { return job.set_speed(speed); });
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
    {"query-block-jobs", "", query_block_jobs},
    {"query-jobs", "", query_jobs},
    {"block-job-set-speed", "device:s speed:i", block_job_set_speed, "DeviceNotActive"},
    {"block-job-pause", "device:s", job_pause, "DeviceNotActive"},
    {"block-job-resume", "device:s", job_resume, "DeviceNotActive"},
    {"block-job-cancel", "device:s force?:b", block_job_cancel, "DeviceNotActive"},
    {"block-job-complete", "device:s", job_complete, "DeviceNotActive"},
    {"block-job-finalize", "id:s", job_finalize},
    {"block-job-dismiss", "id:s", job_dismiss},
    {"job-pause", "id:s", job_pause},
    {"job-resume", "id:s", job_resume},
    {"job-cancel", "id:s", job_cancel},
    {"job-complete", "id:s", job_complete},
    {"job-finalize", "id:s", job_finalize},
    {"job-dismiss", "id:s", job_dismiss},
};

}  // namespace

std::span<const QmpCommand> job_commands() { return kCommands; }

}  // namespace atl::control
