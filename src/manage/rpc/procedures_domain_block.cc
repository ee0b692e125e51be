// Disks of running domains: size, jobs, peeking.
#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/aliases.h"
#include "manage/domain/block_jobs.h"
#include "manage/domain/disk_chain.h"
#include "manage/domain/vm_stats.h"
#include "manage/rpc/domain_rows.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

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
  constexpr u32 kShallow = 1, kReuse = 2, kTransient = 4;
  TRY(check_flags(flags, kShallow | kReuse | kTransient, "virDomainBlockCopy"));
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

constexpr Procedure kRows[] = {
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
