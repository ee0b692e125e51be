// Disks of domains: size, jobs, peeking, limits.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/aliases.h"
#include "manage/domain/block_jobs.h"
#include "manage/domain/disk_chain.h"
#include "manage/domain/tuning.h"
#include "manage/domain/vm_stats.h"
#include "manage/rpc/domain_rows.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

/// Out of line: GCC 12 takes a string that moves into a variant for an uninitialised one.
[[gnu::noinline]] void add(TypedParams& params, std::string name, TypedParam::Value value) { params.emplace_back(std::move(name), std::move(value)); }

Status resize(Call& call) {
  std::string path;
  u64 size = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, path, size, flags));
  constexpr u32 kBytes = 1;
  TRY(check_flags(flags, kBytes, "virDomainBlockResize"));
  auto job = TRY(domain->begin_job());
  auto tree = domain->live();
  if (!tree) return operation_invalid("domain is not running");
  if (!(flags & kBytes)) {
    if (size > ~u64{0} / kKiB) return Error(Code::Overflow, "size must be less than 18014398509481983");
    size *= kKiB;
  }
  const Element* disk = TRY(find_disk(*tree, path, kNotInConfig));
  if (disk_node(*disk).empty()) return operation_invalid(fmt::format("disk '{}' has no medium", path));
  TRY(ask(*domain, "block_resize", {{"node-name", disk_node(*disk)}, {"size", size}}));
  return {};
}

Status peek(Call& call) {
  std::string path;
  u64 offset = 0;
  u32 size = 0, flags = 0;
  auto domain = TRY(read_domain(call, path, offset, size, flags));
  TRY(check_flags(flags, 0, "virDomainBlockPeek"));
  constexpr u32 kMost = 4 * 1024 * 1024;
  if (size > kMost) return rpc_error("size > maximum buffer size");
  const Element tree = TRY(domain->current());
  const Element* disk = TRY(find_disk(tree, path));
  const std::string file = at(*disk, "source", "file"), source = file.empty() ? at(*disk, "source", "dev") : file;
  Fd fd = TRY(open_file(source, O_RDONLY));
  Opaque bytes;
  bytes.bytes.resize(size);
  TRY(read_exact_at(fd, bytes.bytes, offset));
  call.write(bytes);
  return {};
}

Status pull(Call& call) {
  std::string path;
  u64 bandwidth = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, path, bandwidth, flags));
  constexpr u32 kBytes = 64;  // not the 1 of other calls
  TRY(check_flags(flags, kBytes, "virDomainBlockPull"));
  auto job = TRY(domain->begin_job());
  return pull_disk(*domain, path, "", bandwidth, flags != 0);
}

Status rebase(Call& call) {
  std::string path;
  std::optional<std::string> base;
  u64 bandwidth = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, path, base, bandwidth, flags));
  constexpr u32 kShallow = 1, kReuse = 2, kCopyRaw = 4, kCopy = 8, kCopyDevice = 32, kBytes = 64;  // relative names (16) are refused
  TRY(check_flags(flags, kShallow | kReuse | kCopyRaw | kCopy | kCopyDevice | kBytes, "virDomainBlockRebase"));
  auto job = TRY(domain->begin_job());
  if (!(flags & kCopy)) return pull_disk(*domain, path, base.value_or(""), bandwidth, (flags & kBytes) != 0);
  // The old way to ask for a copy.
  Element disk("disk");
  disk.add("source").set(flags & kCopyDevice ? "dev" : "file", base.value_or(""));
  if (flags & kCopyRaw) disk.add("driver").set("type", "raw");
  CopyRequest request{.path = path, .destination = xml::write(disk), .shallow = (flags & kShallow) != 0, .reuse = (flags & kReuse) != 0};
  request.bandwidth = flags & kBytes ? bandwidth : bandwidth * kMiB;
  return copy_disk(call.daemon().domains(), *domain, request);
}

Status commit(Call& call) {
  CommitRequest request;
  std::optional<std::string> base, top;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, request.path, base, top, request.bandwidth, flags));
  constexpr u32 kShallow = 1, kActive = 4, kBytes = 16;  // to delete files (2) and relative names (8) are refused
  TRY(check_flags(flags, kShallow | kActive | kBytes, "virDomainBlockCommit"));
  request.base = base.value_or("");
  request.top = top.value_or("");
  request.shallow = flags & kShallow;
  request.bytes = flags & kBytes;
  request.active = flags & kActive;
  auto job = TRY(domain->begin_job());
  return commit_disk(call.daemon().domains(), *domain, request);
}

Status copy(Call& call) {
  CopyRequest request;
  TypedParams params;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, request.path, request.destination, params, flags));
  constexpr u32 kShallow = 1, kReuse = 2, kTransient = 4, kSynchronous = 8;
  TRY(check_flags(flags, kShallow | kReuse | kTransient | kSynchronous, "virDomainBlockCopy"));
  request.synchronous = flags & kSynchronous;
  request.shallow = flags & kShallow;
  request.reuse = flags & kReuse;
  request.transient = flags & kTransient;
  for (const auto& param : params) {
    u64* place = param.name == "bandwidth" ? &request.bandwidth : param.name == "granularity" ? &request.granularity
                 : param.name == "buf-size" ? &request.buffer : nullptr;
    if (!place) return invalid_arg(fmt::format("parameter '{}' not supported", param.name));
    if (const u64* wide = std::get_if<u64>(&param.value)) *place = *wide;
    else if (const u32* narrow = std::get_if<u32>(&param.value)) *place = *narrow;
    else return invalid_arg(fmt::format("invalid type for parameter '{}'", param.name));
  }
  if (request.granularity & (request.granularity - 1)) return invalid_arg("granularity must be power of 2");
  auto job = TRY(domain->begin_job());
  return copy_disk(call.daemon().domains(), *domain, request);
}

Status abort(Call& call) {
  std::string path;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, path, flags));
  constexpr u32 kAsync = 1, kPivot = 2;
  TRY(check_flags(flags, kAsync | kPivot, "virDomainBlockJobAbort"));
  auto job = TRY(domain->begin_job());
  return end_disk_job(call.daemon().domains(), *domain, path, (flags & kPivot) != 0, (flags & kAsync) != 0);
}

Status job_info(Call& call) {
  std::string path;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, path, flags));
  constexpr u32 kBytes = 1;
  TRY(check_flags(flags, kBytes, "virDomainGetBlockJobInfo"));
  const auto info = TRY(disk_job_info(*domain, path));
  if (!info) {
    call.write(i32{0}, i32{0}, u64{0}, u64{0}, u64{0});
    return {};
  }
  const u64 bandwidth = (flags & kBytes) ? info->bandwidth : info->bandwidth / kMiB;
  call.write(i32{1}, info->type, bandwidth, info->done, info->total);
  return {};
}

Status set_speed(Call& call) {
  std::string path;
  u64 bandwidth = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, path, bandwidth, flags));
  TRY(check_flags(flags, kBandwidthBytes, "virDomainBlockJobSetSpeed"));
  auto job = TRY(domain->begin_job());
  return set_disk_job_speed(*domain, path, (flags & kBandwidthBytes) ? bandwidth : bandwidth * kMiB);
}

Status set_threshold(Call& call) {
  std::string name;
  u64 threshold = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, name, threshold, flags));
  TRY(check_flags(flags, 0, "virDomainSetBlockThreshold"));
  auto job = TRY(domain->begin_job());
  auto tree = domain->live();
  if (!tree) return operation_invalid("domain is not running");
  const std::string target = name.substr(0, name.find('['));
  for (const Element* disk : devices_of(*tree).children("disk")) {
    if (at(*disk, "target", "dev") != target) continue;
    const auto images = chain_of(*disk);
    if (images.empty()) return operation_invalid(fmt::format("disk '{}' does not currently have a source assigned", target));
    const size_t place = TRY(find_image(*disk, name));
    // What a raw image's guest writes is where it lies in the file; other formats' files have a node of their own.
    const bool raw = images[place].format == "raw";
    const std::string node = raw ? format_node(images[place].index) : storage_node(images[place].index);
    TRY(ask(*domain, "block-set-write-threshold", {{"node-name", node}, {"write-threshold", threshold}}));
    return {};
  }
  return invalid_arg(fmt::format("failed to find disk '{}'", name));
}

// --- limits of one disk

/// Limits that exclude each other (all, or reads and writes) are set together: whoever sets one of a group clears the rest of it.
struct TuneGroup {
  std::array<std::string_view, 3> names;
  std::string_view what;  // as libvirt calls the group
};
constexpr TuneGroup kTuneGroups[] = {
    {{"total_bytes_sec", "read_bytes_sec", "write_bytes_sec"}, "bytes_sec"},
    {{"total_iops_sec", "read_iops_sec", "write_iops_sec"}, "iops_sec"},
    {{"total_bytes_sec_max", "read_bytes_sec_max", "write_bytes_sec_max"}, "bytes_sec_max"},
    {{"total_iops_sec_max", "read_iops_sec_max", "write_iops_sec_max"}, "iops_sec_max"},
    {{"size_iops_sec", "", ""}, ""},
    {{"group_name", "", ""}, ""},
    {{"total_bytes_sec_max_length", "read_bytes_sec_max_length", "write_bytes_sec_max_length"}, ""},
    {{"total_iops_sec_max_length", "read_iops_sec_max_length", "write_iops_sec_max_length"}, ""},
};

const TuneGroup* group_of(std::string_view name) {
  for (const auto& group : kTuneGroups)
    if (std::ranges::find(group.names, name) != group.names.end()) return &group;
  return nullptr;
}

/// Limits, what they may be exceeded by, and how long.
struct Burst {
  size_t limit, burst, length;
};
constexpr Burst kBursts[] = {{0, 2, 6}, {1, 3, 7}};

/// A burst is more than its limit, and has one; `given`: what the call is about.
Status check_bursts(Element& tune, const TypedParams& given) {
  for (const auto& [limit, burst, length] : kBursts)
    for (size_t i = 0; i < 3; ++i) {
      const std::string_view name = kTuneGroups[limit].names[i], exceeding = kTuneGroups[burst].names[i];
      const u64 least = parse_u64(text_at(tune, name)).value_or(0), most = parse_u64(text_at(tune, exceeding)).value_or(0);
      const bool burst_is_given = find_param(given, exceeding) != nullptr;
      if (most && !least && !burst_is_given) return config_unsupported(fmt::format("cannot reset '{}' when '{}' is set", name, exceeding));
      if (most && most < least) return config_unsupported(fmt::format("value '{}' cannot be smaller than '{}'", exceeding, name));
      if (!most) tune.remove(kTuneGroups[length].names[i]);
    }
  return {};
}

Status put_iotune(Element& tree, const std::string& path, const TypedParams& params) {
  Element* disk = const_cast<Element*>(TRY(find_disk(tree, path, kNotInDomain)));
  Element& tune = ensure(*disk, "iotune");
  for (const auto& param : params) {
    const TuneGroup* group = param.name.empty() ? nullptr : group_of(param.name);
    if (!group) return invalid_arg(fmt::format("parameter '{}' not supported", param.name));
    for (std::string_view name : group->names)
      if (!name.empty()) tune.remove(name);
  }
  for (const auto& param : params) {
    const std::string* text = std::get_if<std::string>(&param.value);
    auto value = integer_of(param);
    if ((param.name == "group_name") != (text != nullptr) || (!text && !value)) return invalid_arg(fmt::format("invalid type for parameter '{}'", param.name));
    if (text && !text->empty()) tune.add(param.name, std::string_view(*text));
    if (value && *value) tune.add(param.name, static_cast<u64>(*value));
  }
  for (const auto& group : kTuneGroups)
    if (!group.what.empty() && tune.child(group.names[0]) && (tune.child(group.names[1]) || tune.child(group.names[2])))
      return invalid_arg(fmt::format("total and read/write of {} cannot be set at the same time", group.what));
  TRY(check_bursts(tune, params));
  if (tune.children().empty()) disk->remove("iotune");
  put_in_order(tree);
  return {};
}

Status set_block_io_tune(Call& call) {
  std::string path;
  TypedParams params;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, path, params, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetBlockIoTune"));
  auto job = TRY(domain->begin_job());
  const Impact impact = TRY(impact_of(*domain, flags));
  auto edit = [&](Element& tree) { return put_iotune(tree, path, params); };
  if (impact.live) {
    Element tree = TRY(domain->current());
    TRY(edit(tree));
    const Element* disk = TRY(find_disk(tree, path));
    Element copy = *disk;
    ensure(copy, "iotune");  // none any more: all limits are 0
    TRY(ask(*domain, "block_set_io_throttle", Json::parse(*io_throttle_arguments(copy), nullptr, false)));
    TRY(edit_live(call.daemon().domains(), *domain, edit));
  }
  if (impact.config) TRY(edit_config(call.daemon().domains(), *domain, edit));
  return {};
}

Status get_block_io_tune(Call& call) {
  std::optional<std::string> path;
  i32 asked = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, path, asked, flags));
  TRY(check_flags(flags, kAffect | kStringOkay, "virDomainGetBlockIoTune"));
  const Element tree = TRY(tree_for(*domain, flags & kAffect));
  const std::string_view missing = tree.has_attribute("id") ? kNotInDomain : kNotInConfig;
  TypedParams params;
  const Element* tune = nullptr;
  if (path && !path->empty()) tune = TRY(find_disk(tree, *path, missing))->child("iotune");
  for (const auto& group : kTuneGroups)
    for (std::string_view name : group.names) {
      const std::string text = tune && !name.empty() ? text_at(*tune, name) : "";
      if (name == "group_name") add(params, std::string(name), text);
      else if (!name.empty()) add(params, std::string(name), parse_u64(text).value_or(0));
    }
  call.write_params(params, asked);
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_SET_BLOCK_IO_TUNE, Access::Write, set_block_io_tune},
    {Proc::DOMAIN_GET_BLOCK_IO_TUNE, Access::Read, get_block_io_tune},
    {Proc::DOMAIN_BLOCK_RESIZE, Access::Write, resize},
    {Proc::DOMAIN_BLOCK_PEEK, Access::Write, peek},
    {Proc::DOMAIN_BLOCK_PULL, Access::Write, pull},
    {Proc::DOMAIN_BLOCK_REBASE, Access::Write, rebase},
    {Proc::DOMAIN_BLOCK_COMMIT, Access::Write, commit},
    {Proc::DOMAIN_BLOCK_COPY, Access::Write, copy},
    {Proc::DOMAIN_BLOCK_JOB_ABORT, Access::Write, abort},
    {Proc::DOMAIN_GET_BLOCK_JOB_INFO, Access::Read, job_info},
    {Proc::DOMAIN_BLOCK_JOB_SET_SPEED, Access::Write, set_speed},
    {Proc::DOMAIN_SET_BLOCK_THRESHOLD, Access::Write, set_threshold},
};

}  // namespace

std::span<const Procedure> domain_block_rows() { return kRows; }

}  // namespace atl::manage
