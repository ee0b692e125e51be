#include "manage/domain/block_jobs.h"

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "manage/domain/aliases.h"
#include "manage/domain/vm_stats.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kAnswer_ns = 30'000'000'000;

/// What a disk's device reads from now: jobs and snapshots change it.
struct Medium {
  std::string target, node, file, format;
};

Result<Medium> medium_of(const Domain& domain, const std::string& path) {
  auto tree = domain.live();
  auto monitor = TRY(domain.monitor());
  if (!tree) return operation_invalid("domain is not running");
  const Element* disk = TRY(find_disk(*tree, path));
  for (const Json& drive : TRY(monitor->execute("query-block", Json::object(), kAnswer_ns))) {
    const std::string device = drive.value("qdev", "");
    if (device != alias_of(*disk) && !device.ends_with("/" + alias_of(*disk)) && !device.ends_with("/" + alias_of(*disk) + "/virtio-backend")) continue;
    const Json inserted = drive.value("inserted", Json::object());
    return Medium{.target = at(*disk, "target", "dev"), .node = inserted.value("node-name", ""), .file = inserted.value("file", ""),
                  .format = inserted.value("drv", "")};
  }
  return operation_invalid(fmt::format("disk '{}' does not currently have a source assigned", path));
}

std::string job_name(const std::string& target) { return "job-" + target; }

u64 bytes_of(u64 bandwidth, bool bytes) { return bytes ? bandwidth : bandwidth * kMiB; }

/// An empty file of the VM's user: it cannot make one itself.
Status make_target_file(RunningVm& vm, const std::string& path, bool must_exist) {
  const int flags = O_RDWR | (must_exist ? 0 : O_CREAT | O_EXCL);
  TRY(open_file(path, flags, 0600));
  return vm.files.give(path, true);
}

}  // namespace

Status pull_disk(const Domain& domain, const std::string& path, const std::string& base, u64 bandwidth, bool bytes) {
  const Medium medium = TRY(medium_of(domain, path));
  Json arguments = {{"job-id", job_name(medium.target)}, {"device", medium.node}};
  if (!base.empty()) arguments["base"] = base;
  if (bandwidth) arguments["speed"] = bytes_of(bandwidth, bytes);
  auto monitor = TRY(domain.monitor());
  TRY(monitor->execute("block-stream", std::move(arguments), kAnswer_ns));
  return {};
}

Status commit_disk(const Domain& domain, const CommitRequest& request) {
  const Medium medium = TRY(medium_of(domain, request.path));
  Json arguments = {{"job-id", job_name(medium.target)}, {"device", medium.node}, {"auto-finalize", true}};
  if (!request.top.empty() && request.top != medium.file && request.top != request.path) arguments["top"] = request.top;
  if (!request.base.empty()) arguments["base"] = request.base;
  if (request.shallow && request.base.empty()) {
    const auto chain = TRY(backing_files(request.top.empty() ? medium.file : request.top, medium.format));
    if (chain.empty()) return invalid_arg(fmt::format("top '{}' in chain for '{}' has no backing file", medium.file, request.path));
    arguments["base"] = chain[0];
  }
  if (request.bandwidth) arguments["speed"] = bytes_of(request.bandwidth, request.bytes);
  // What is committed to was opened for reading only.
  auto vm = domain.running();
  const auto chain = TRY(backing_files(medium.file, medium.format));
  for (const auto& file : chain)
    if (vm) TRY(vm->files.give(file, true));
  auto monitor = TRY(domain.monitor());
  TRY(monitor->execute("block-commit", std::move(arguments), kAnswer_ns));
  return {};
}

Status copy_disk(Domains&, const Domain& domain, const CopyRequest& request) {
  const Element wanted = TRY(xml::parse(request.destination, "(disk_definition)", "disk"));
  const Medium medium = TRY(medium_of(domain, request.path));
  const std::string file = at(wanted, "source", "file"), path = file.empty() ? at(wanted, "source", "dev") : file;
  if (path.empty()) return config_unsupported("only files and block devices can be copied to");
  const std::string asked = at(wanted, "driver", "type"), format = asked.empty() ? medium.format : asked;
  auto vm = domain.running();
  auto monitor = TRY(domain.monitor());
  if (!vm) return operation_invalid("domain is not running");
  TRY(make_target_file(*vm, path, request.reuse || file.empty()));
  auto started = monitor->execute("drive-mirror",
                                  {{"job-id", job_name(medium.target)}, {"device", medium.node}, {"target", path}, {"format", format},
                                   {"mode", request.reuse ? "existing" : "absolute-paths"}, {"sync", request.shallow ? "top" : "full"}},
                                  kAnswer_ns);
  if (started) return {};
  vm->files.take_back(path);
  if (!request.reuse && !file.empty()) ::unlink(path.c_str());
  return std::move(started).error();
}

namespace {

Result<std::optional<Json>> find_job(const Domain& domain, const std::string& target) {
  auto monitor = TRY(domain.monitor());
  for (const Json& job : TRY(monitor->execute("query-block-jobs", Json::object(), kAnswer_ns)))
    if (job.value("device", "") == job_name(target)) return std::optional(job);
  return std::optional<Json>();
}

Result<std::string> target_of(const Domain& domain, const std::string& path) {
  auto tree = domain.live();
  if (!tree) return operation_invalid("domain is not running");
  return at(*TRY(find_disk(*tree, path)), "target", "dev");
}

/// Until the job has gone; it does so by itself after its last word.
Status await_end(const Domain& domain, const std::string& target) {
  constexpr u64 kPatience_ns = 60'000'000'000;
  const u64 deadline = monotonic_ns() + kPatience_ns;
  while (TRY(find_job(domain, target)).has_value()) {
    if (monotonic_ns() > deadline) return Error(Code::OperationTimeout, fmt::format("the job on '{}' does not end", target));
    ::usleep(10'000);
  }
  return {};
}

/// The definition follows the disk to what it reads from now, so that the next start finds its data.
Status follow_medium(Domains& domains, Domain& domain, const std::string& target) {
  const Medium now = TRY(medium_of(domain, target));
  auto edit = [&](Element& tree) -> Status {
    for (Element* disk : each(devices_of(tree), "disk")) {
      if (at(*disk, "target", "dev") != target) continue;
      Element& source = ensure(*disk, "source");
      source.set(source.has_attribute("dev") ? "dev" : "file", now.file);
      ensure(*disk, "driver").set("type", now.format);
    }
    return {};
  };
  auto live = domain.live();
  if (!live) return operation_invalid("domain is not running");
  Element tree = *live;
  TRY(edit(tree));
  domain.set_live(std::move(tree));
  domains.save_status(domain);
  if (!domain.facts().persistent) return {};
  Element config = TRY(domain.config());
  TRY(edit(config));
  return domains.store(domain, config);
}

}  // namespace

Result<std::optional<DiskJobInfo>> disk_job_info(const Domain& domain, const std::string& path) {
  const std::string target = TRY(target_of(domain, path));
  const auto job = TRY(find_job(domain, target));
  if (!job) return std::optional<DiskJobInfo>();
  const std::string kind = job->value("type", "");
  const DiskJobType type = kind == "stream"   ? DiskJobType::Pull
                           : kind == "mirror" ? DiskJobType::Copy
                           : kind == "commit" ? DiskJobType::Commit
                           : kind == "backup" ? DiskJobType::Backup
                                              : DiskJobType::Unknown;
  DiskJobInfo info{.type = static_cast<i32>(type), .bandwidth = job->value("speed", u64{0}), .done = job->value("offset", u64{0}),
                   .total = job->value("len", u64{0}), .ready = job->value("ready", false)};
  // Clients take "all done" for the sign that they may pivot.
  if (!info.ready && info.done >= info.total && kind != "stream") info.total = info.done + 1;
  if (info.ready) info.done = info.total = std::max<u64>(info.total, 1);
  return std::optional(info);
}

Status end_disk_job(Domains& domains, Domain& domain, const std::string& path, bool pivot, bool do_not_wait) {
  const std::string target = TRY(target_of(domain, path));
  const auto info = TRY(disk_job_info(domain, path));
  if (!info) return operation_invalid(fmt::format("disk {} does not have an active block job", target));
  if (pivot && !info->ready) return Error(Code::BlockCopyActive, fmt::format("disk '{}' not ready for pivot yet", target));
  auto monitor = TRY(domain.monitor());
  const char* command = pivot ? "block-job-complete" : "block-job-cancel";
  TRY(monitor->execute(command, {{"device", job_name(target)}}, kAnswer_ns));
  if (do_not_wait && !pivot) return {};
  TRY(await_end(domain, target));
  return pivot ? follow_medium(domains, domain, target) : Status();
}

Status set_disk_job_speed(const Domain& domain, const std::string& path, u64 bytes_per_second) {
  const std::string target = TRY(target_of(domain, path));
  auto monitor = TRY(domain.monitor());
  TRY(monitor->execute("block-job-set-speed", {{"device", job_name(target)}, {"speed", bytes_per_second}}, kAnswer_ns));
  return {};
}

namespace {

struct NewOverlay {
  std::string target, node, file;
};

/// Where a disk goes on: as the client says, else beside the image with the snapshot's name for an ending.
Result<NewOverlay> overlay_for(const Domain& domain, const Element* asked, const std::string& target, const std::string& name) {
  const Medium medium = TRY(medium_of(domain, target));
  std::string file = asked ? at(*asked, "source", "file") : std::string();
  const size_t slash = medium.file.rfind('/'), dot = medium.file.rfind('.');
  const bool has_ending = dot != std::string::npos && (slash == std::string::npos || dot > slash);
  if (file.empty()) file = medium.file.substr(0, has_ending ? dot : std::string::npos) + "." + name;
  if (file == medium.file) return invalid_arg(fmt::format("snapshot of disk '{}' would overwrite it", target));
  return NewOverlay{target, medium.node, file};
}

Result<std::vector<NewOverlay>> overlays_of(const Domain& domain, const Element& tree, const Element& snapshot, const std::string& name) {
  std::vector<NewOverlay> list;
  const Element* disks = snapshot.child("disks");
  for (const Element* disk : devices_of(tree).children("disk")) {
    const std::string target = at(*disk, "target", "dev");
    if (disk->attribute("device") != "disk" || disk->child("readonly")) continue;
    const Element* asked = nullptr;
    for (const Element* other : disks ? disks->children("disk") : std::vector<const Element*>())
      if (other->attribute("name") == target || other->attribute("name") == at(*disk, "source", "file")) asked = other;
    const std::string mode = asked ? asked->attribute("snapshot") : "";
    if (mode == "no") continue;
    if (mode == "internal" || mode == "manual") return config_unsupported(fmt::format("'{}' snapshots of a running domain's disks are not supported", mode));
    list.push_back(TRY(overlay_for(domain, asked, target, name)));
  }
  if (list.empty()) return config_unsupported("no disks selected for snapshot");
  return list;
}

}  // namespace

Status snapshot_disks(Domains& domains, Domain& domain, const Element& snapshot, const std::string& name, bool reuse) {
  auto tree = domain.live();
  auto vm = domain.running();
  auto monitor = TRY(domain.monitor());
  if (!tree || !vm) return operation_invalid("domain is not running");
  const auto overlays = TRY(overlays_of(domain, *tree, snapshot, name));
  Json actions = Json::array();
  for (const auto& overlay : overlays) {
    TRY(make_target_file(*vm, overlay.file, reuse));
    actions.push_back({{"type", "blockdev-snapshot-sync"},
                       {"data", {{"node-name", overlay.node}, {"snapshot-file", overlay.file}, {"format", "qcow2"},
                                 {"snapshot-node-name", fmt::format("libvirt-{}-{}", overlay.target, monotonic_ns())},
                                 {"mode", reuse ? "existing" : "absolute-paths"}}}});
  }
  auto done = monitor->execute("transaction", {{"actions", std::move(actions)}}, kAnswer_ns);
  if (!done) {
    for (const auto& overlay : overlays) {
      vm->files.take_back(overlay.file);
      if (!reuse) ::unlink(overlay.file.c_str());
    }
    return std::move(done).error();
  }
  for (const auto& overlay : overlays) TRY(follow_medium(domains, domain, overlay.target));
  return {};
}

}  // namespace atl::manage
