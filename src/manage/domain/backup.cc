#include "manage/domain/backup.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/log.h"
#include "manage/domain/aliases.h"
#include "manage/domain/block_jobs.h"
#include "manage/domain/checkpoints.h"
#include "manage/domain/disk_chain.h"
#include "manage/storage/images.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kAnswer_ns = 30'000'000'000;

bool is_pull(const Element& backup) { return backup.attribute("mode") == "pull"; }

std::vector<Element*> disks_of(Element& backup) {
  std::vector<Element*> disks = each(ensure(backup, "disks"), "disk");
  std::erase_if(disks, [](const Element* disk) { return disk->attribute("backup") != "yes"; });
  return disks;
}

std::string store_path(const Element& disk) {
  const Element* store = disk.child("target") ? disk.child("target") : disk.child("scratch");
  if (!store) return {};
  return store->has_attribute("file") ? store->attribute("file") : store->attribute("dev");
}

std::string bitmap_name(const Element& disk) {
  const std::string own = disk.attribute("exportbitmap");
  return own.empty() ? "backup-" + disk.attribute("name") : own;
}

std::string export_id(const Element& disk) { return "backup-" + disk.attribute("name"); }

/// The VM makes its socket where it may; the client finds it where it asked for it.
std::string server_socket(const RunningVm& vm) { return vm.folder + "/backup.sock"; }

// --- files

Result<u64> node_size(QmpClient& monitor, const std::string& node) {
  for (const Json& known : TRY(monitor.execute("query-named-block-nodes", {{"flat", true}}, kAnswer_ns)))
    if (known.value("node-name", "") == node) return known.value("image", Json::object()).value("virtual-size", u64{0});
  return internal_error(fmt::format("the VM does not know its node '{}'", node));
}

Status make_file(Element& disk, const std::string& path, u64 size) {
  const std::string format = at(disk, "driver", "type");
  if (::access(path.c_str(), F_OK) == 0) return invalid_arg(fmt::format("store '{}' for backup of '{}' exists", path, disk.attribute("name")));
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) return os_error(fmt::format("failed to create image file '{}'", path));
  disk.set("made", "yes");
  if (format == "qcow2") return create_image({.path = path, .format = format, .capacity_bytes = size});
  if (::ftruncate(file.get(), static_cast<off_t>(size)) < 0) return os_error("cannot extend file " + path);
  return {};
}

Status make_store(RunningVm& vm, Element& disk, bool reuse) {
  const std::string path = store_path(disk);
  const bool block = disk.attribute("type") == "block";
  if (block && !reuse && at(disk, "driver", "type") != "raw")
    return config_unsupported(fmt::format("disk '{}': a block device has its format already, or is written to as 'raw'", disk.attribute("name")));
  if (!reuse && !block) {
    const u64 size = TRY(node_size(*vm.monitor, disk.attribute("source-node")));
    TRY(make_file(disk, path, size));
  }
  return vm.files.give(path, true);
}

Status open_store(RunningVm& vm, const Element& disk, bool pull) {
  const std::string index = disk.attribute("index"), format = at(disk, "driver", "type");
  const char* bytes = disk.attribute("type") == "block" ? "host_device" : "file";
  TRY(vm.monitor->execute("blockdev-add", {{"driver", bytes}, {"filename", store_path(disk)}, {"node-name", storage_node(index)}}, kAnswer_ns));
  Json image = {{"driver", format}, {"file", storage_node(index)}, {"node-name", format_node(index)}};
  // What the guest has not overwritten yet is read from its own disk.
  if (format == "qcow2") image["backing"] = pull ? Json(disk.attribute("source-node")) : Json();
  TRY(vm.monitor->execute("blockdev-add", std::move(image), kAnswer_ns));
  return {};
}

// --- the moment of the backup

/// A bitmap of its own holds still while the checkpoint's goes on.
Status add_bitmap_actions(const Domains& domains, const Domain& domain, const Element& disk, const std::string& node, Json& actions) {
  const std::string target = disk.attribute("name"), since = disk.attribute("incremental"), own = bitmap_name(disk);
  const auto checkpoint = SnapshotStore::of_checkpoints(domains.config().paths.state, domain.name()).find(since);
  const std::string recorded = checkpoint ? checkpoint_bitmap(*checkpoint, target) : "";
  if (recorded.empty())
    return Error(Code::NoDomainCheckpoint, fmt::format("Checkpoint '{}' for incremental backup of disk '{}' not found", since, target));
  actions.push_back({{"type", "block-dirty-bitmap-add"}, {"data", {{"node", node}, {"name", own}, {"disabled", true}}}});
  Json source = {{"node", disk.attribute("source-node")}, {"name", recorded}};
  actions.push_back({{"type", "block-dirty-bitmap-merge"}, {"data", {{"node", node}, {"target", own}, {"bitmaps", Json::array({std::move(source)})}}}});
  return {};
}

Result<Json> backup_actions(const Domains& domains, const Domain& domain, Element& backup) {
  Json actions = Json::array();
  const bool pull = is_pull(backup);
  for (const Element* disk : disks_of(backup)) {
    const std::string node = disk->attribute("source-node"), store = format_node(disk->attribute("index"));
    const bool incremental = disk->attribute("backupmode") == "incremental";
    if (incremental) TRY(add_bitmap_actions(domains, domain, *disk, pull ? store : node, actions));
    Json job = {{"job-id", disk_job_name(disk->attribute("name"))}, {"device", node}, {"target", store}, {"sync", pull ? "none" : incremental ? "bitmap" : "full"}};
    if (incremental && !pull) job.update({{"bitmap", bitmap_name(*disk)}, {"bitmap-mode", "never"}});
    actions.push_back({{"type", "blockdev-backup"}, {"data", std::move(job)}});
  }
  return actions;
}

Status start_server(RunningVm& vm, const Element& server) {
  Json address = {{"type", "inet"}, {"data", {{"host", server.attribute("name")}, {"port", server.attribute("port")}}}};
  if (server.attribute("transport") == "unix") address = {{"type", "unix"}, {"data", {{"path", server_socket(vm)}}}};
  TRY(vm.monitor->execute("nbd-server-start", {{"addr", std::move(address)}}, kAnswer_ns));
  if (server.attribute("transport") != "unix") return {};
  const std::string path = server.attribute("socket");
  if (::symlink(server_socket(vm).c_str(), path.c_str()) < 0) return os_error(fmt::format("cannot make socket '{}'", path));
  return {};
}

Status offer(RunningVm& vm, Element& backup) {
  for (const Element* disk : disks_of(backup)) {
    Json arguments = {{"type", "nbd"}, {"id", export_id(*disk)}, {"node-name", format_node(disk->attribute("index"))}, {"name", disk->attribute("exportname")}};
    if (disk->attribute("backupmode") == "incremental") arguments["bitmaps"] = Json::array({bitmap_name(*disk)});
    TRY(vm.monitor->execute("block-export-add", std::move(arguments), kAnswer_ns));
  }
  return {};
}

// --- its end

void remove_socket(const Element& backup, const RunningVm& vm) {
  const std::string path = at(backup, "server", "socket");
  char target[4096];
  const ssize_t length = path.empty() ? -1 : ::readlink(path.c_str(), target, sizeof target);
  if (length > 0 && std::string_view(target, static_cast<size_t>(length)) == server_socket(vm)) ::unlink(path.c_str());
}

/// Files that only the backup needed; those of push mode stay if it went well.
void remove_files(Element& backup, bool all) {
  for (const Element* disk : disks_of(backup))
    if (disk->attribute("made") == "yes" && (all || is_pull(backup))) ::unlink(store_path(*disk).c_str());
}

void stop_offering(RunningVm& vm, Element& backup) {
  if (!is_pull(backup)) return;
  for (const Element* disk : disks_of(backup)) (void)vm.monitor->execute("block-export-del", {{"id", export_id(*disk)}, {"mode", "hard"}}, kAnswer_ns);
  (void)vm.monitor->execute("nbd-server-stop", Json::object(), kAnswer_ns);
  remove_socket(backup, vm);
}

/// Whatever of it is there; what is not is no error.
void clear_backup(RunningVm& vm, Element& backup) {
  stop_offering(vm, backup);
  for (const Element* disk : disks_of(backup)) {
    if (disk->attribute("backupmode") == "incremental" && !is_pull(backup))
      (void)vm.monitor->execute("block-dirty-bitmap-remove", {{"node", disk->attribute("source-node")}, {"name", bitmap_name(*disk)}}, kAnswer_ns);
    for (const auto& node : {format_node(disk->attribute("index")), storage_node(disk->attribute("index"))})
      (void)vm.monitor->execute("blockdev-del", {{"node-name", node}}, kAnswer_ns);
    vm.files.take_back(store_path(*disk));
  }
}

Status start_backup(Domains& domains, Domain& domain, RunningVm& vm, Element& backup, const BackupRequest& request) {
  for (Element* disk : disks_of(backup)) {
    disk->set("source-node", TRY(medium_of(domain, disk->attribute("name"))).node).set("index", vm.next_node++);
    TRY(make_store(vm, *disk, request.reuse));
    TRY(open_store(vm, *disk, is_pull(backup)));
    disk->set("state", "running");
  }
  Json actions = TRY(backup_actions(domains, domain, backup));
  std::optional<NewCheckpoint> checkpoint;
  const auto store = SnapshotStore::of_checkpoints(domains.config().paths.state, domain.name());
  if (request.checkpoint) {
    const Element asked = TRY(xml::parse(*request.checkpoint, "(domain_checkpoint)", "domaincheckpoint"));
    checkpoint = TRY(plan_checkpoint(domain, store, asked));
    for (Json& action : TRY(checkpoint_actions(domain, *checkpoint))) actions.push_back(std::move(action));
  }
  if (is_pull(backup)) TRY(start_server(vm, *backup.child("server")));
  TRY(vm.monitor->execute("transaction", {{"actions", std::move(actions)}}, kAnswer_ns));
  // From here on there are jobs, whose end will clear up.
  domain.set_backup(backup);
  domain.set_long_job({.operation = kOperationBackup, .begin_ns = monotonic_ns()});
  if (checkpoint) TRY(keep_checkpoint(store, *checkpoint));
  return is_pull(backup) ? offer(vm, backup) : Status();
}

void cancel_jobs(QmpClient& monitor, Element& backup) {
  for (const Element* disk : disks_of(backup))
    if (disk->attribute("state") == "running") (void)monitor.execute("block-job-cancel", {{"device", disk_job_name(disk->attribute("name"))}}, kAnswer_ns);
}

enum class Outcome : u8 { Done, Failed, Cancelled };

void tell_end(Domains& domains, Domain& domain, Element& backup, Outcome outcome) {
  LongJob job = domain.long_job().value_or(LongJob{.operation = kOperationBackup, .begin_ns = monotonic_ns()});
  job.end_ns = monotonic_ns();
  job.failed = outcome == Outcome::Failed;
  job.cancelled = outcome == Outcome::Cancelled;
  job.temporary = is_pull(backup);
  for (const Element* disk : disks_of(backup)) job.disk_total += parse_u64(disk->attribute("bytes")).value_or(0);
  job.disk_done = job.disk_total;
  domain.set_long_job(job);
  domain.set_backup(std::nullopt);
  TypedParams params;
  params.emplace_back("operation", job.operation);
  params.emplace_back("time_elapsed", u64{(job.end_ns - job.begin_ns) / 1'000'000});
  params.emplace_back("success", outcome == Outcome::Done);
  domains.events().domain(DomainEvent::JobCompleted, domain.ref(), params);
}

}  // namespace

Status begin_backup(Domains& domains, Domain& domain, const BackupRequest& request) {
  if (!domain.active()) return operation_unsupported("cannot perform disk backup for inactive domain");
  auto vm = domain.running();
  auto tree = domain.live();
  TRY(domain.monitor());
  if (!vm || !tree) return operation_invalid("domain is not running");
  if (domain.backup()) return Error(Code::OperationTimeout, "cannot acquire state change lock (held by a backup of the domain)");
  std::string suffix = std::to_string(::time(nullptr));
  if (request.checkpoint)
    if (auto asked = xml::parse(*request.checkpoint, "(domain_checkpoint)", "domaincheckpoint"); asked && !text_at(*asked, "name").empty()) suffix = text_at(*asked, "name");
  Element backup = TRY(plan_backup(request.backup, *tree, suffix));
  if (Status started = start_backup(domains, domain, *vm, backup, request); !started) {
    cancel_jobs(*vm->monitor, backup);
    clear_backup(*vm, backup);
    remove_files(backup, true);
    domain.set_backup(std::nullopt);
    return started;
  }
  domains.save_status(domain);
  return {};
}

Status cancel_backup(Domains& domains, Domain& domain) {
  constexpr u64 kPatience_ns = 30'000'000'000;
  auto vm = domain.running();
  auto monitor = TRY(domain.monitor());
  auto backup = domain.backup();
  if (!vm || !backup) return operation_invalid("no job is active on the domain");
  stop_offering(*vm, *backup);
  backup->set("cancelled", "yes");
  domain.set_backup(backup);
  cancel_jobs(*monitor, *backup);
  const u64 deadline = monotonic_ns() + kPatience_ns;
  while (domain.backup()) {
    if (monotonic_ns() > deadline) return Error(Code::OperationTimeout, "the backup does not end");
    ::usleep(10'000);
  }
  domains.save_status(domain);
  return {};
}

void backup_disk_ended(Domains& domains, Domain& domain, const std::string& target, bool failed, u64 bytes) {
  auto vm = domain.running();
  auto backup = domain.backup();
  if (!vm || !vm->monitor || !backup) return;
  bool running = false, any_failed = failed;
  for (Element* disk : disks_of(*backup)) {
    if (disk->attribute("name") == target) disk->set("state", failed ? "failed" : "completed").set("bytes", bytes);
    running |= disk->attribute("state") == "running";
    any_failed |= disk->attribute("state") == "failed";
  }
  domain.set_backup(backup);
  // One that lacks a disk is none.
  if (running && failed) cancel_jobs(*vm->monitor, *backup);
  if (running) return domains.save_status(domain);
  clear_backup(*vm, *backup);
  remove_files(*backup, false);
  const bool cancelled = backup->attribute("cancelled") == "yes" && !is_pull(*backup);
  tell_end(domains, domain, *backup, any_failed ? Outcome::Failed : cancelled ? Outcome::Cancelled : Outcome::Done);
  domains.save_status(domain);
}

void drop_backup(Domains& domains, Domain& domain, const RunningVm& vm) {
  auto backup = domain.backup();
  if (!backup) return;
  remove_socket(*backup, vm);
  remove_files(*backup, false);
  tell_end(domains, domain, *backup, Outcome::Failed);
}

void resume_backup(Domains& domains, Domain& domain) {
  auto backup = domain.backup();
  auto monitor = domain.monitor();
  if (!backup || !monitor) return;
  domain.set_long_job({.operation = kOperationBackup, .begin_ns = monotonic_ns()});
  auto jobs = (*monitor)->execute("query-block-jobs", Json::object(), kAnswer_ns);
  for (const Element* disk : disks_of(*backup)) {
    const std::string name = disk_job_name(disk->attribute("name"));
    const bool there = jobs && std::ranges::any_of(*jobs, [&](const Json& job) { return job.value("device", "") == name; });
    if (there || disk->attribute("state") != "running") continue;
    log_error("domain '{}': the backup of '{}' ended while nobody saw how", domain.name(), disk->attribute("name"));
    backup_disk_ended(domains, domain, disk->attribute("name"), true, 0);
  }
}

std::optional<BackupProgress> backup_progress(const Domain& domain) {
  auto backup = domain.backup();
  auto monitor = domain.monitor();
  if (!backup || !monitor) return std::nullopt;
  BackupProgress progress{.pull = is_pull(*backup)};
  auto jobs = (*monitor)->execute("query-block-jobs", Json::object(), kAnswer_ns);
  for (const Element* disk : disks_of(*backup)) {
    const u64 ended = parse_u64(disk->attribute("bytes")).value_or(0);
    progress.done += ended;
    progress.total += ended;
    for (const Json& job : jobs ? *jobs : Json::array()) {
      if (job.value("device", "") != disk_job_name(disk->attribute("name"))) continue;
      progress.done += job.value("offset", u64{0});
      progress.total += job.value("len", u64{0});
    }
  }
  return progress;
}

}  // namespace atl::manage
