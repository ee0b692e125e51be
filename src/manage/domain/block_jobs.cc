#include "manage/domain/block_jobs.h"

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "manage/domain/aliases.h"
#include "manage/domain/disk_chain.h"
#include "manage/domain/vm_stats.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kAnswer_ns = 30'000'000'000;

/// Bytes a second, of a call's bytes or MiB.
Result<u64> bytes_of(u64 bandwidth, bool bytes) {
  constexpr u64 kMost_mib = (~u64{0} >> 1) / kMiB;
  if (!bytes && bandwidth > kMost_mib) return Error(Code::Overflow, fmt::format("bandwidth must be less than {}", kMost_mib));
  return bytes ? bandwidth : bandwidth * kMiB;
}

/// The disk as it is in the domain, running or not.
Result<Element> disk_named(const Domain& domain, const std::string& path) {
  const Element tree = TRY(domain.current());
  return *TRY(find_disk(tree, path, kNotInDomain));
}

/// Where a job will lead is told to clients, and remembered, as <mirror>.
void note_mirror(Domains& domains, Domain& domain, const std::string& target, std::string_view kind, const ChainImage& image) {
  domain.change_live([&](Element& tree) {
    for (Element* disk : each(devices_of(tree), "disk")) {
      if (at(*disk, "target", "dev") != target) continue;
      disk->remove("mirror");
      Element& mirror = disk->add("mirror");
      mirror.set("type", "file").set("job", kind);
      mirror.add("format").set("type", image.format);
      mirror.add("source").set("file", image.path).set("index", image.index);
    }
    put_in_order(tree);
  });
  domains.save_status(domain);
}

}  // namespace

Status make_image_file(RunningVm& vm, const std::string& path, bool must_exist) {
  const int flags = O_RDWR | (must_exist ? 0 : O_CREAT | O_EXCL);
  TRY(open_file(path, flags, 0600));
  return vm.files.give(path, true);
}

Status pull_disk(const Domain& domain, const std::string& path, const std::string& base, u64 bandwidth, bool bytes) {
  const u64 speed = TRY(bytes_of(bandwidth, bytes));
  const Element disk = TRY(disk_named(domain, path));
  auto monitor = TRY(domain.monitor());
  const auto images = chain_of(disk);
  if (images.empty()) return operation_invalid(fmt::format("disk '{}' does not currently have a source assigned", path));
  Json arguments = {{"job-id", disk_job_name(at(disk, "target", "dev"))}, {"device", disk_node(disk)}};
  if (!base.empty()) arguments["base"] = images[TRY(find_image(disk, base))].path;
  if (speed) arguments["speed"] = speed;
  TRY(monitor->execute("block-stream", std::move(arguments), kAnswer_ns));
  return {};
}

namespace {

struct CommitRange {
  size_t top = 0, base = 0;  // places in the chain
};

Result<CommitRange> commit_range(const Element& disk, const CommitRequest& request) {
  const auto images = chain_of(disk);
  const std::string target = at(disk, "target", "dev");
  CommitRange range;
  if (!request.top.empty()) range.top = TRY(find_image(disk, request.top));
  const auto base = request.base.empty() ? std::optional<Result<size_t>>() : find_image(disk, request.base);
  if (base && !*base && !request.base.contains('['))
    return invalid_arg(fmt::format("could not find image '{}' beneath '{}' in chain for '{}'", request.base, images.empty() ? "" : images[range.top].path, target));
  if (range.top + 1 >= images.size()) return invalid_arg(fmt::format("could not find base image in chain for '{}'", request.path));
  range.base = request.shallow && request.base.empty() ? range.top + 1 : images.size() - 1;
  if (base) range.base = TRY(*base);
  if (range.base <= range.top)
    return invalid_arg(fmt::format("base '{}' is not below '{}' in chain for '{}'", images[range.base].path, images[range.top].path, target));
  if (range.top == 0 && !request.active) return invalid_arg(fmt::format("commit of '{}' active layer requires active flag", target));
  if (range.top != 0 && request.active)
    return invalid_arg(fmt::format("active commit requested but '{}' is not active", images[range.top].path));
  return range;
}

}  // namespace

Status commit_disk(Domains& domains, Domain& domain, const CommitRequest& request) {
  const u64 speed = TRY(bytes_of(request.bandwidth, request.bytes));
  const Element disk = TRY(disk_named(domain, request.path));
  const CommitRange range = TRY(commit_range(disk, request));
  auto monitor = TRY(domain.monitor());
  auto vm = domain.running();
  const auto images = chain_of(disk);
  const std::string target = at(disk, "target", "dev");
  // Images are named by their files: the name of a disk's first node stays with what the disk reads from.
  Json arguments = {{"job-id", disk_job_name(target)}, {"device", disk_node(disk)}, {"base", images[range.base].path}};
  if (range.top) arguments["top"] = images[range.top].path;
  if (speed) arguments["speed"] = speed;
  // What is committed to was opened for reading only; the image above it gets another backing file.
  if (vm) TRY(vm->files.give(images[range.base].path, true));
  if (vm && range.top) TRY(vm->files.give(images[range.top - 1].path, true));
  TRY(monitor->execute("block-commit", std::move(arguments), kAnswer_ns));
  if (range.top == 0) note_mirror(domains, domain, target, "active-commit", images[range.base]);
  return {};
}

Status copy_disk(Domains& domains, Domain& domain, const CopyRequest& request) {
  const Medium medium = TRY(medium_of(domain, request.path));
  if (domain.facts().persistent && !request.transient) return operation_invalid("domain is not transient");
  const Element wanted = TRY(xml::parse(request.destination, "(disk_definition)", "disk"));
  const std::string file = at(wanted, "source", "file"), path = file.empty() ? at(wanted, "source", "dev") : file;
  if (path.empty()) return config_unsupported("only files and block devices can be copied to");
  std::string format = at(wanted, "driver", "type");
  if (format.empty()) format = at(wanted, "format", "type");
  if (format.empty()) format = medium.format;
  auto vm = domain.running();
  auto monitor = TRY(domain.monitor());
  if (!vm) return operation_invalid("domain is not running");
  TRY(make_image_file(*vm, path, request.reuse || file.empty()));
  const ChainImage image{.index = std::to_string(vm->next_node++), .path = path, .format = format};
  Json arguments = {{"job-id", disk_job_name(medium.target)}, {"device", medium.node}, {"target", path}, {"format", format},
                    {"node-name", format_node(image.index)}, {"mode", request.reuse ? "existing" : "absolute-paths"},
                    {"sync", request.shallow ? "top" : "full"}};
  if (request.synchronous) arguments["copy-mode"] = "write-blocking";
  if (request.bandwidth) arguments["speed"] = request.bandwidth;
  if (request.granularity) arguments["granularity"] = request.granularity;
  if (request.buffer) arguments["buf-size"] = request.buffer;
  auto started = monitor->execute("drive-mirror", std::move(arguments), kAnswer_ns);
  if (started) {
    note_mirror(domains, domain, medium.target, "copy", image);
    return {};
  }
  vm->files.take_back(path);
  if (!request.reuse && !file.empty()) ::unlink(path.c_str());
  return std::move(started).error();
}

namespace {

Result<std::optional<Json>> find_job(const Domain& domain, const std::string& target) {
  auto monitor = TRY(domain.monitor());
  for (const Json& job : TRY(monitor->execute("query-block-jobs", Json::object(), kAnswer_ns)))
    if (job.value("device", "") == disk_job_name(target)) return std::optional(job);
  return std::optional<Json>();
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

}  // namespace

DiskJobType disk_job_type(const Element& disk, const std::string& kind) {
  if (kind == "stream") return DiskJobType::Pull;
  if (kind == "mirror") return DiskJobType::Copy;
  if (kind == "commit") return disk.child("mirror") ? DiskJobType::ActiveCommit : DiskJobType::Commit;
  return kind == "backup" ? DiskJobType::Backup : DiskJobType::Unknown;
}

Result<std::optional<DiskJobInfo>> disk_job_info(const Domain& domain, const std::string& path) {
  TRY(domain.monitor());
  const Element disk = TRY(disk_named(domain, path));
  const auto job = TRY(find_job(domain, at(disk, "target", "dev")));
  if (!job) return std::optional<DiskJobInfo>();
  const std::string kind = job->value("type", "");
  DiskJobInfo info{.type = static_cast<i32>(disk_job_type(disk, kind)), .bandwidth = job->value("speed", u64{0}),
                   .done = job->value("offset", u64{0}), .total = job->value("len", u64{0}), .ready = job->value("ready", false)};
  // Clients take "all done" for the sign that they may pivot.
  if (!info.ready && info.done >= info.total && kind != "stream") info.total = info.done + 1;
  if (info.ready) info.done = info.total = std::max<u64>(info.total, 1);
  return std::optional(info);
}

Status end_disk_job(Domains& domains, Domain& domain, const std::string& path, bool pivot, bool do_not_wait) {
  TRY(domain.monitor());
  const std::string target = at(TRY(disk_named(domain, path)), "target", "dev");
  const auto info = TRY(disk_job_info(domain, path));
  if (!info) return invalid_arg(fmt::format("disk {} does not have an active block job", target));
  if (pivot && !info->ready) return Error(Code::BlockCopyActive, fmt::format("disk '{}' not ready for pivot yet", target));
  auto monitor = TRY(domain.monitor());
  const char* command = pivot ? "block-job-complete" : "block-job-cancel";
  TRY(monitor->execute(command, {{"device", disk_job_name(target)}}, kAnswer_ns));
  if (do_not_wait && !pivot) return {};
  TRY(await_end(domain, target));
  return follow_medium(domains, domain, target);
}

Status merge_overlay(Domains& domains, Domain& domain, const std::string& target, const std::string& overlay) {
  const Element disk = TRY(disk_named(domain, target));
  const size_t place = TRY(find_image(disk, overlay));
  CommitRequest request{.path = target, .base = "", .top = place ? overlay : "", .shallow = true, .active = place == 0};
  TRY(commit_disk(domains, domain, request));
  constexpr u64 kPatience_ns = 3600'000'000'000;
  const u64 deadline = monotonic_ns() + kPatience_ns;
  for (auto info = TRY(disk_job_info(domain, target)); info && !info->ready; info = TRY(disk_job_info(domain, target))) {
    if (monotonic_ns() > deadline) return Error(Code::OperationTimeout, fmt::format("the job on '{}' does not end", target));
    ::usleep(20'000);
  }
  if (place == 0) TRY(end_disk_job(domains, domain, target, true, false));
  else TRY(follow_medium(domains, domain, target));
  const Element after = TRY(disk_named(domain, target));
  if (find_image(after, overlay)) return operation_failed(fmt::format("the overlay '{}' could not be merged", overlay));
  if (::unlink(overlay.c_str()) < 0) return os_error(fmt::format("cannot delete '{}'", overlay));
  return {};
}

Status set_disk_job_speed(const Domain& domain, const std::string& path, u64 bytes_per_second) {
  auto monitor = TRY(domain.monitor());
  const std::string target = at(TRY(disk_named(domain, path)), "target", "dev");
  TRY(monitor->execute("block-job-set-speed", {{"device", disk_job_name(target)}, {"speed", bytes_per_second}}, kAnswer_ns));
  return {};
}

}  // namespace atl::manage
