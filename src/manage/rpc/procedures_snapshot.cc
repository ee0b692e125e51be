// Snapshots: external ones of a running domain's disks, without a record of ours ("--disk-only --no-metadata"). Others are refused,
// so that there never is one to list.
#include <ctime>

#include <fmt/format.h>

#include "manage/domain/block_jobs.h"
#include "manage/rpc/domain_rows.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

constexpr u32 kNoMetadata = 4, kHalt = 8, kDiskOnly = 16, kReuseExternal = 32, kQuiesce = 64, kAtomic = 128, kLive = 256, kValidate = 512;

Status create(Call& call) {
  std::string text;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, text, flags));
  TRY(check_flags(flags, kNoMetadata | kHalt | kDiskOnly | kReuseExternal | kQuiesce | kAtomic | kLive | kValidate, "virDomainSnapshotCreateXML"));
  if (!(flags & kDiskOnly)) return operation_unsupported("snapshots of a domain's memory are not supported by atoll-vmm: ask for the disks only");
  if (!(flags & kNoMetadata)) return operation_unsupported("snapshots with metadata are not kept: ask for none (--no-metadata)");
  if (flags & kQuiesce) return Error(Code::AgentUnresponsive, "QEMU guest agent is not connected");
  if (flags & kHalt) return operation_unsupported("a domain cannot be halted after a snapshot of its disks");
  const Element snapshot = TRY(xml::parse(text, "(domain_snapshot)", "domainsnapshot"));
  const std::string given = text_at(snapshot, "name"), name = given.empty() ? std::to_string(::time(nullptr)) : given;
  TRY(xml::check_name(name));
  auto job = TRY(domain->begin_job());
  TRY(snapshot_disks(call.daemon().domains(), *domain, snapshot, name, (flags & kReuseExternal) != 0));
  call.write(SnapshotRef{name, domain->ref()});
  return {};
}

Status count(Call& call) {
  u32 flags = 0;
  TRY(read_domain(call, flags));
  call.write(i32{0});
  return {};
}

Status list_names(Call& call) {
  i32 most = 0;
  u32 flags = 0;
  TRY(read_domain(call, most, flags));
  call.write(std::vector<std::string>());
  return {};
}

Status list_all(Call& call) {
  i32 wanted = 0;
  u32 flags = 0;
  TRY(read_domain(call, wanted, flags));
  call.write(std::vector<SnapshotRef>(), i32{0});
  return {};
}

Status lookup(Call& call) {
  std::string name;
  u32 flags = 0;
  TRY(read_domain(call, name, flags));
  return no_snapshot(name);
}

Status has_current(Call& call) {
  u32 flags = 0;
  TRY(read_domain(call, flags));
  call.write(i32{0});
  return {};
}

Status current(Call& call) {
  u32 flags = 0;
  TRY(read_domain(call, flags));
  return Error(Code::NoDomainSnapshot, "the domain does not have a current snapshot");
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_SNAPSHOT_CREATE_XML, Access::Write, create},
    {Proc::DOMAIN_SNAPSHOT_NUM, Access::Read, count, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_LIST_NAMES, Access::Read, list_names, Where::Quick},
    {Proc::DOMAIN_LIST_ALL_SNAPSHOTS, Access::Read, list_all, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_LOOKUP_BY_NAME, Access::Read, lookup, Where::Quick},
    {Proc::DOMAIN_HAS_CURRENT_SNAPSHOT, Access::Read, has_current, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_CURRENT, Access::Read, current, Where::Quick},
};

}  // namespace

std::span<const Procedure> snapshot_procedures() { return kRows; }

}  // namespace atl::manage
