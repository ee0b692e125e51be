// Snapshots of disks: their records. Taking and deleting them, and going back, is procedures_snapshot_change.cc.
#include <algorithm>

#include <fmt/format.h>

#include "manage/rpc/snapshot_rows.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

// VIR_DOMAIN_SNAPSHOT_LIST_*. Ours have no memory, and all have a record.
constexpr u32 kListRoots = 1, kListMetadata = 2, kListLeaves = 4, kListNoLeaves = 8, kListNoMetadata = 16, kListInactive = 32, kListActive = 64,
              kListDiskOnly = 128, kListInternal = 256, kListExternal = 512, kListTopological = 1024, kListAll = 2047;

bool passes(const std::vector<Snapshot>& all, const Snapshot& snapshot, u32 flags) {
  const bool leaf = std::ranges::none_of(all, [&](const Snapshot& other) { return other.parent() == snapshot.name(); });
  if ((flags & (kListLeaves | kListNoLeaves)) && !(flags & (leaf ? kListLeaves : kListNoLeaves))) return false;
  if ((flags & kListNoMetadata) && !(flags & kListMetadata)) return false;
  const u32 state = text_at(snapshot.tree, "state") == "disk-snapshot" ? kListDiskOnly : kListInactive;
  if ((flags & (kListInactive | kListActive | kListDiskOnly)) && !(flags & state)) return false;
  const u32 place = snapshot.is_internal() ? kListInternal : kListExternal;
  return !(flags & (kListInternal | kListExternal)) || (flags & place);
}

/// Of a domain, or below one of them.
std::vector<SnapshotRef> chosen(const Domain& domain, const SnapshotStore& store, const std::string& above, u32 flags) {
  const auto all = store.all();
  const bool only_near = above.empty() ? (flags & kListRoots) != 0 : !(flags & kListRoots);
  std::vector<SnapshotRef> list;
  for (const auto& snapshot : above.empty() ? all : descendants(all, above)) {
    if (only_near && snapshot.parent() != above) continue;
    if (passes(all, snapshot, flags)) list.push_back({snapshot.name(), domain.ref()});
  }
  // Parents before children where that is asked for: creation says so.
  if (flags & kListTopological) {
    auto depth = [&](const SnapshotRef& ref) {
      size_t steps = 0;
      for (std::string at = ref.name; !at.empty() && steps <= all.size(); ++steps) {
        auto found = std::ranges::find(all, at, &Snapshot::name);
        at = found == all.end() ? "" : found->parent();
      }
      return steps;
    };
    std::ranges::stable_sort(list, {}, depth);
  }
  return list;
}

std::vector<std::string> names_of(const std::vector<SnapshotRef>& list, i32 most) {
  std::vector<std::string> names;
  for (const auto& ref : list)
    if (static_cast<i64>(names.size()) < most) names.push_back(ref.name);
  return names;
}

Status count(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, kListAll, "virDomainSnapshotNum"));
  call.write(static_cast<i32>(chosen(*domain, snapshots_of(call, domain->name()), "", flags).size()));
  return {};
}

Status list_names(Call& call) {
  i32 most = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, most, flags));
  TRY(check_flags(flags, kListAll, "virDomainSnapshotListNames"));
  call.write(names_of(chosen(*domain, snapshots_of(call, domain->name()), "", flags), most));
  return {};
}

Status list_all(Call& call) {
  i32 wanted = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, wanted, flags));
  TRY(check_flags(flags, kListAll, "virDomainListAllSnapshots"));
  const auto list = chosen(*domain, snapshots_of(call, domain->name()), "", flags);
  call.write(wanted ? list : std::vector<SnapshotRef>(), static_cast<i32>(list.size()));
  return {};
}

Status count_children(Call& call) {
  u32 flags = 0;
  const NamedSnapshot named = TRY(read_snapshot(call, flags));
  TRY(check_flags(flags, kListAll, "virDomainSnapshotNumChildren"));
  call.write(static_cast<i32>(chosen(*named.domain, named.store, named.snapshot.name(), flags).size()));
  return {};
}

Status list_child_names(Call& call) {
  i32 most = 0;
  u32 flags = 0;
  const NamedSnapshot named = TRY(read_snapshot(call, most, flags));
  TRY(check_flags(flags, kListAll, "virDomainSnapshotListChildrenNames"));
  call.write(names_of(chosen(*named.domain, named.store, named.snapshot.name(), flags), most));
  return {};
}

Status list_children(Call& call) {
  i32 wanted = 0;
  u32 flags = 0;
  const NamedSnapshot named = TRY(read_snapshot(call, wanted, flags));
  TRY(check_flags(flags, kListAll, "virDomainSnapshotListAllChildren"));
  const auto list = chosen(*named.domain, named.store, named.snapshot.name(), flags);
  call.write(wanted ? list : std::vector<SnapshotRef>(), static_cast<i32>(list.size()));
  return {};
}

Status lookup(Call& call) {
  std::string name;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, name, flags));
  TRY(snapshots_of(call, domain->name()).find(name));
  call.write(SnapshotRef{name, domain->ref()});
  return {};
}

std::optional<Snapshot> current_of(const SnapshotStore& store) {
  for (auto& snapshot : store.all())
    if (snapshot.current) return std::move(snapshot);
  return std::nullopt;
}

Status has_current(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  call.write(i32{current_of(snapshots_of(call, domain->name())).has_value()});
  return {};
}

Status current(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  const auto found = current_of(snapshots_of(call, domain->name()));
  if (!found) return Error(Code::NoDomainSnapshot, "the domain does not have a current snapshot");
  call.write(SnapshotRef{found->name(), domain->ref()});
  return {};
}

Status get_parent(Call& call) {
  u32 flags = 0;
  const NamedSnapshot named = TRY(read_snapshot(call, flags));
  if (named.snapshot.parent().empty())
    return Error(Code::NoDomainSnapshot, fmt::format("snapshot '{}' does not have a parent", named.snapshot.name()));
  call.write(SnapshotRef{named.snapshot.parent(), named.domain->ref()});
  return {};
}

Status is_current(Call& call) {
  u32 flags = 0;
  const NamedSnapshot named = TRY(read_snapshot(call, flags));
  call.write(i32{named.snapshot.current});
  return {};
}

Status has_metadata(Call& call) {
  u32 flags = 0;
  TRY(read_snapshot(call, flags));
  call.write(i32{1});
  return {};
}

Status get_xml(Call& call) {
  u32 flags = 0;
  const NamedSnapshot named = TRY(read_snapshot(call, flags));
  constexpr u32 kSecure = 1;
  TRY(check_flags(flags, kSecure, "virDomainSnapshotGetXMLDesc"));
  Element tree = named.snapshot.tree;
  if (Element* domain = tree.child("domain"); domain && !(flags & kSecure))
    for (Element* graphics : each(devices_of(*domain), "graphics")) graphics->remove_attribute("passwd");
  call.write(xml::write(tree));
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_SNAPSHOT_GET_XML_DESC, Access::Read, get_xml},
    {Proc::DOMAIN_SNAPSHOT_NUM, Access::Read, count, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_LIST_NAMES, Access::Read, list_names, Where::Quick},
    {Proc::DOMAIN_LIST_ALL_SNAPSHOTS, Access::Read, list_all, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_NUM_CHILDREN, Access::Read, count_children, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_LIST_CHILDREN_NAMES, Access::Read, list_child_names, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_LIST_ALL_CHILDREN, Access::Read, list_children, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_LOOKUP_BY_NAME, Access::Read, lookup, Where::Quick},
    {Proc::DOMAIN_HAS_CURRENT_SNAPSHOT, Access::Read, has_current, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_CURRENT, Access::Read, current, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_GET_PARENT, Access::Read, get_parent, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_IS_CURRENT, Access::Read, is_current, Where::Quick},
    {Proc::DOMAIN_SNAPSHOT_HAS_METADATA, Access::Read, has_metadata, Where::Quick},
};

}  // namespace

std::span<const Procedure> snapshot_procedures() {
  static const std::vector<Procedure> kAll = [] {
    std::vector<Procedure> rows(std::begin(kRows), std::end(kRows));
    for (auto part : {snapshot_change_rows(), checkpoint_rows(), backup_rows()}) rows.insert(rows.end(), part.begin(), part.end());
    return rows;
  }();
  return kAll;
}

}  // namespace atl::manage
