// Finding and listing domains.
#include <algorithm>

#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

Status lookup_by_id(Call& call) {
  i32 id = 0;
  TRY(call.read(id));
  call.write(TRY(call.daemon().domains().find_id(id))->ref());
  return {};
}

Status lookup_by_name(Call& call) {
  std::string name;
  TRY(call.read(name));
  call.write(TRY(call.daemon().domains().find_name(name))->ref());
  return {};
}

Status lookup_by_uuid(Call& call) {
  Uuid uuid{};
  TRY(call.read(uuid));
  call.write(TRY(call.daemon().domains().find(uuid))->ref());
  return {};
}

std::vector<DomainFacts> sorted_facts(Call& call) {
  std::vector<DomainFacts> list;
  for (const auto& domain : call.daemon().domains().all()) list.push_back(domain->facts());
  std::ranges::sort(list, {}, &DomainFacts::name);
  return list;
}

constexpr i32 kMaxIds = 16384;

Status list_ids(Call& call) {
  i32 limit = 0;
  TRY(call.read(limit));
  if (limit > kMaxIds) return rpc_error("maxids > REMOTE_DOMAIN_LIST_MAX");
  std::vector<i32> ids;
  for (const auto& facts : sorted_facts(call))
    if (facts.active() && static_cast<i32>(ids.size()) < limit) ids.push_back(facts.id);
  call.write(ids);
  return {};
}

Status list_defined(Call& call) {
  i32 limit = 0;
  TRY(call.read(limit));
  if (limit > kMaxIds) return rpc_error("maxnames > REMOTE_DOMAIN_LIST_MAX");
  std::vector<std::string> names;
  for (const auto& facts : sorted_facts(call))
    if (!facts.active() && static_cast<i32>(names.size()) < limit) names.push_back(facts.name);
  call.write(names);
  return {};
}

Status count_active(Call& call) {
  call.write(static_cast<i32>(std::ranges::count_if(sorted_facts(call), &DomainFacts::active)));
  return {};
}

Status count_defined(Call& call) {
  call.write(static_cast<i32>(std::ranges::count_if(sorted_facts(call), [](const DomainFacts& f) { return !f.active(); })));
  return {};
}

}  // namespace

/// Filters of virConnectListAllDomains: bits in groups; no bit of a group means all of it.
bool passes_filter(const DomainFacts& facts, u32 flags) {
  struct Choice {
    u32 bit;
    bool holds;
  };
  const RunState state = facts.state.state;
  const bool other = state != RunState::Running && state != RunState::Paused && state != RunState::Shutoff;
  const std::vector<std::vector<Choice>> groups = {
      {{1u << 0, facts.active()}, {1u << 1, !facts.active()}},
      {{1u << 2, facts.persistent}, {1u << 3, !facts.persistent}},
      {{1u << 4, state == RunState::Running}, {1u << 5, state == RunState::Paused}, {1u << 6, state == RunState::Shutoff}, {1u << 7, other}},
      {{1u << 8, facts.managed_save}, {1u << 9, !facts.managed_save}},
      {{1u << 10, facts.autostart}, {1u << 11, !facts.autostart}},
      {{1u << 12, false}, {1u << 13, true}},  // snapshots with metadata
      {{1u << 14, false}, {1u << 15, true}},  // checkpoints
  };
  return std::ranges::all_of(groups, [&](const auto& group) {
    const bool asked = std::ranges::any_of(group, [&](const Choice& c) { return (flags & c.bit) != 0; });
    return !asked || std::ranges::any_of(group, [&](const Choice& c) { return (flags & c.bit) && c.holds; });
  });
}

namespace {

Status list_all(Call& call) {
  i32 wanted = 0;
  u32 flags = 0;
  TRY(call.read(wanted, flags));
  TRY(check_flags(flags, 0xffff, "virConnectListAllDomains"));
  std::vector<DomainRef> list;
  for (const auto& facts : sorted_facts(call))
    if (passes_filter(facts, flags)) list.push_back(facts.ref());
  call.write_list(list, wanted != 0);
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_LOOKUP_BY_ID, Access::Read, lookup_by_id, Where::Loop},
    {Proc::DOMAIN_LOOKUP_BY_NAME, Access::Read, lookup_by_name, Where::Loop},
    {Proc::DOMAIN_LOOKUP_BY_UUID, Access::Read, lookup_by_uuid, Where::Loop},
    {Proc::CONNECT_LIST_DOMAINS, Access::Read, list_ids, Where::Loop},
    {Proc::CONNECT_LIST_DEFINED_DOMAINS, Access::Read, list_defined, Where::Loop},
    {Proc::CONNECT_NUM_OF_DOMAINS, Access::Read, count_active, Where::Loop},
    {Proc::CONNECT_NUM_OF_DEFINED_DOMAINS, Access::Read, count_defined, Where::Loop},
    {Proc::CONNECT_LIST_ALL_DOMAINS, Access::Read, list_all, Where::Loop},
};

}  // namespace

std::span<const Procedure> domain_lookup_rows() { return kRows; }

}  // namespace atl::manage
