// Snapshots: external ones of a running domain's disks, with a record or without. Those with memory, and inside of images, are refused.
#include <unistd.h>

#include <algorithm>
#include <ctime>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/agent.h"
#include "manage/domain/block_jobs.h"
#include "manage/domain/snapshots.h"
#include "manage/rpc/domain_rows.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u32 kRedefine = 1, kCurrent = 2, kNoMetadata = 4, kHalt = 8, kDiskOnly = 16, kReuseExternal = 32, kQuiesce = 64, kAtomic = 128,
              kLive = 256, kValidate = 512;

SnapshotStore store_of(Call& call, const std::string& domain) { return {call.daemon().config().paths.state, domain}; }

/// A snapshot that a call begins with, and its domain.
struct Named {
  DomainPtr domain;
  SnapshotStore store;
  Snapshot snapshot;
};

template <class... T>
Result<Named> read_snapshot(Call& call, T&... rest) {
  SnapshotRef ref;
  TRY(call.read(ref, rest...));
  auto domain = TRY(call.daemon().domains().find(ref.domain.uuid));
  SnapshotStore store = store_of(call, domain->name());
  Snapshot snapshot = TRY(store.find(ref.name));
  return Named{std::move(domain), std::move(store), std::move(snapshot)};
}

// --- taking one

/// The record that libvirt would keep: where each disk goes on, and what the domain was.
Snapshot make_record(const Element& asked, const std::string& name, const Element& domain, const std::vector<NewOverlay>& overlays) {
  Snapshot record{.tree = Element("domainsnapshot")};
  record.tree.add("name", std::string_view(name));
  if (const std::string words = text_at(asked, "description"); !words.empty()) record.tree.add("description", std::string_view(words));
  record.tree.add("state", std::string_view("disk-snapshot"));
  record.tree.add("creationTime", static_cast<u64>(::time(nullptr)));
  record.tree.add("memory").set("snapshot", "no");
  Element& disks = record.tree.add("disks");
  for (const Element* disk : devices_of(domain).children("disk")) {
    const std::string target = at(*disk, "target", "dev");
    Element& entry = disks.add("disk");
    entry.set("name", target);
    auto overlay = std::ranges::find(overlays, target, &NewOverlay::target);
    entry.set("snapshot", overlay == overlays.end() ? "no" : "external");
    if (overlay == overlays.end()) continue;
    entry.set("type", "file");
    entry.add("driver").set("type", "qcow2");
    entry.add("source").set("file", overlay->file);
  }
  record.tree.add(domain);
  return record;
}

/// The record goes behind the one that was current.
Status keep(const SnapshotStore& store, Snapshot record, bool current) {
  for (const auto& other : store.all())
    if (other.current && other.name() != record.name()) {
      Element parent("parent");
      parent.add("name", std::string_view(other.name()));
      auto& content = record.tree.content();
      auto place = std::ranges::find(content, "creationTime", &Element::name);
      content.insert(place, std::move(parent));
    }
  const std::string name = record.name();
  TRY(store.save(record));
  return current ? store.set_current(name) : Status();
}

Status redefine(Call& call, Domain& domain, const Element& asked, u32 flags) {
  const std::string name = text_at(asked, "name");
  if (name.empty()) return xml_error("a redefined snapshot must have a name");
  TRY(xml::check_name(name));
  if (text_at(asked, "state") != "disk-snapshot" || at(asked, "memory", "snapshot") == "internal")
    return operation_unsupported("only snapshots of disks can be redefined");
  const SnapshotStore store = store_of(call, domain.name());
  if (const std::string parent = text_at(asked, "parent/name"); !parent.empty()) {
    if (parent == name) return invalid_arg(fmt::format("cannot set snapshot {} as its own parent", name));
    if (!store.find(parent)) return invalid_arg(fmt::format("parent {} for snapshot {} not found", parent, name));
  }
  TRY(store.save({.tree = asked}));
  if (flags & kCurrent) TRY(store.set_current(name));
  call.write(SnapshotRef{name, domain.ref()});
  return {};
}

/// With the guest's file systems at rest, if that is asked for.
Status take(Call& call, Domain& domain, const std::vector<NewOverlay>& overlays, u32 flags) {
  const bool quiesce = flags & kQuiesce;
  if (quiesce) TRY(ask_agent(domain, "guest-fsfreeze-freeze", Json::object()));
  Status taken = snapshot_disks(call.daemon().domains(), domain, overlays, (flags & kReuseExternal) != 0);
  if (quiesce) (void)ask_agent(domain, "guest-fsfreeze-thaw", Json::object());
  return taken;
}

Status create(Call& call) {
  std::string text;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, text, flags));
  TRY(check_flags(flags, kRedefine | kCurrent | kNoMetadata | kHalt | kDiskOnly | kReuseExternal | kQuiesce | kAtomic | kLive | kValidate,
                  "virDomainSnapshotCreateXML"));
  if ((flags & kQuiesce) && !(flags & kDiskOnly)) return invalid_arg("quiesce requires disk-only snapshot");
  const Element asked = TRY(xml::parse(text, "(domain_snapshot)", "domainsnapshot"));
  auto job = TRY(domain->begin_job());
  if (flags & kRedefine) return redefine(call, *domain, asked, flags);
  if (!(flags & kDiskOnly)) return operation_unsupported("snapshots of a domain's memory are not supported by atoll-vmm: ask for the disks only");
  if (flags & kHalt) return operation_unsupported("a domain cannot be halted after a snapshot of its disks");
  const std::string given = text_at(asked, "name"), name = given.empty() ? std::to_string(::time(nullptr)) : given;
  TRY(xml::check_name(name));
  const SnapshotStore store = store_of(call, domain->name());
  if (!(flags & kNoMetadata) && store.find(name)) return operation_failed(fmt::format("snapshot {} already exists", name));
  const Element tree = TRY(domain->current());
  const auto overlays = TRY(overlays_of(tree, asked, name));
  if (!domain->active()) return operation_unsupported("snapshots of the disks of a domain that does not run are not supported");
  Element before = tree;
  drop_runtime(before);
  TRY(take(call, *domain, overlays, flags));
  if (!(flags & kNoMetadata)) TRY(keep(store, make_record(asked, name, before, overlays), true));
  call.write(SnapshotRef{name, domain->ref()});
  return {};
}

// --- looking at them

// VIR_DOMAIN_SNAPSHOT_LIST_*. Ours are all of the disks only, external, and with a record.
constexpr u32 kListRoots = 1, kListMetadata = 2, kListLeaves = 4, kListNoLeaves = 8, kListNoMetadata = 16, kListInactive = 32, kListActive = 64,
              kListDiskOnly = 128, kListInternal = 256, kListExternal = 512, kListTopological = 1024, kListAll = 2047;

bool passes(const std::vector<Snapshot>& all, const Snapshot& snapshot, u32 flags) {
  const bool leaf = std::ranges::none_of(all, [&](const Snapshot& other) { return other.parent() == snapshot.name(); });
  if ((flags & (kListLeaves | kListNoLeaves)) && !(flags & (leaf ? kListLeaves : kListNoLeaves))) return false;
  if ((flags & kListNoMetadata) && !(flags & kListMetadata)) return false;
  if ((flags & (kListInactive | kListActive | kListDiskOnly)) && !(flags & kListDiskOnly)) return false;
  return !(flags & (kListInternal | kListExternal)) || (flags & kListExternal);
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
  call.write(static_cast<i32>(chosen(*domain, store_of(call, domain->name()), "", flags).size()));
  return {};
}

Status list_names(Call& call) {
  i32 most = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, most, flags));
  TRY(check_flags(flags, kListAll, "virDomainSnapshotListNames"));
  call.write(names_of(chosen(*domain, store_of(call, domain->name()), "", flags), most));
  return {};
}

Status list_all(Call& call) {
  i32 wanted = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, wanted, flags));
  TRY(check_flags(flags, kListAll, "virDomainListAllSnapshots"));
  const auto list = chosen(*domain, store_of(call, domain->name()), "", flags);
  call.write(wanted ? list : std::vector<SnapshotRef>(), static_cast<i32>(list.size()));
  return {};
}

Status count_children(Call& call) {
  u32 flags = 0;
  const Named named = TRY(read_snapshot(call, flags));
  TRY(check_flags(flags, kListAll, "virDomainSnapshotNumChildren"));
  call.write(static_cast<i32>(chosen(*named.domain, named.store, named.snapshot.name(), flags).size()));
  return {};
}

Status list_child_names(Call& call) {
  i32 most = 0;
  u32 flags = 0;
  const Named named = TRY(read_snapshot(call, most, flags));
  TRY(check_flags(flags, kListAll, "virDomainSnapshotListChildrenNames"));
  call.write(names_of(chosen(*named.domain, named.store, named.snapshot.name(), flags), most));
  return {};
}

Status list_children(Call& call) {
  i32 wanted = 0;
  u32 flags = 0;
  const Named named = TRY(read_snapshot(call, wanted, flags));
  TRY(check_flags(flags, kListAll, "virDomainSnapshotListAllChildren"));
  const auto list = chosen(*named.domain, named.store, named.snapshot.name(), flags);
  call.write(wanted ? list : std::vector<SnapshotRef>(), static_cast<i32>(list.size()));
  return {};
}

Status lookup(Call& call) {
  std::string name;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, name, flags));
  TRY(store_of(call, domain->name()).find(name));
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
  call.write(i32{current_of(store_of(call, domain->name())).has_value()});
  return {};
}

Status current(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  const auto found = current_of(store_of(call, domain->name()));
  if (!found) return Error(Code::NoDomainSnapshot, "the domain does not have a current snapshot");
  call.write(SnapshotRef{found->name(), domain->ref()});
  return {};
}

Status get_parent(Call& call) {
  u32 flags = 0;
  const Named named = TRY(read_snapshot(call, flags));
  if (named.snapshot.parent().empty())
    return Error(Code::NoDomainSnapshot, fmt::format("snapshot '{}' does not have a parent", named.snapshot.name()));
  call.write(SnapshotRef{named.snapshot.parent(), named.domain->ref()});
  return {};
}

Status is_current(Call& call) {
  u32 flags = 0;
  const Named named = TRY(read_snapshot(call, flags));
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
  const Named named = TRY(read_snapshot(call, flags));
  constexpr u32 kSecure = 1;
  TRY(check_flags(flags, kSecure, "virDomainSnapshotGetXMLDesc"));
  Element tree = named.snapshot.tree;
  if (Element* domain = tree.child("domain"); domain && !(flags & kSecure))
    for (Element* graphics : each(devices_of(*domain), "graphics")) graphics->remove_attribute("passwd");
  call.write(xml::write(tree));
  return {};
}

// --- giving them up

constexpr u32 kDeleteChildren = 1, kDeleteMetadataOnly = 2, kDeleteChildrenOnly = 4;

/// What was written since the snapshot goes down into the image that it kept, whose file its disk goes on in.
Status merge(Call& call, Domain& domain, const Snapshot& snapshot) {
  const Element* disks = snapshot.tree.child("disks");
  for (const Element* disk : disks ? disks->children("disk") : std::vector<const Element*>()) {
    if (disk->attribute("snapshot") != "external") continue;
    TRY(merge_overlay(call.daemon().domains(), domain, disk->attribute("name"), at(*disk, "source", "file")));
  }
  return {};
}

Status remove_one(Call& call, const Named& named, const Snapshot& snapshot, bool metadata_only) {
  if (!metadata_only) TRY(merge(call, *named.domain, snapshot));
  return named.store.remove(snapshot.name());
}

Status remove(Call& call) {
  u32 flags = 0;
  const Named named = TRY(read_snapshot(call, flags));
  TRY(check_flags(flags, kDeleteChildren | kDeleteMetadataOnly | kDeleteChildrenOnly, "virDomainSnapshotDelete"));
  auto job = TRY(named.domain->begin_job());
  const bool metadata_only = flags & kDeleteMetadataOnly;
  if (!metadata_only && !named.domain->active())
    return operation_unsupported("deletion of external disk snapshots of a domain that does not run is not supported");
  auto below = (flags & (kDeleteChildren | kDeleteChildrenOnly)) ? descendants(named.store.all(), named.snapshot.name()) : std::vector<Snapshot>();
  for (auto child = below.rbegin(); child != below.rend(); ++child) TRY(remove_one(call, named, *child, metadata_only));
  if (flags & kDeleteChildrenOnly) return {};
  return remove_one(call, named, named.snapshot, metadata_only);
}

Status revert(Call& call) {
  u32 flags = 0;
  TRY(read_snapshot(call, flags));
  return config_unsupported("revert to external snapshot not supported yet");
}

// --- checkpoints and backups: there never is one

Status list_checkpoints(Call& call) {
  i32 wanted = 0;
  u32 flags = 0;
  TRY(read_domain(call, wanted, flags));
  call.write(std::vector<CheckpointRef>(), i32{0});
  return {};
}

Status lookup_checkpoint(Call& call) {
  std::string name;
  u32 flags = 0;
  TRY(read_domain(call, name, flags));
  return Error(Code::NoDomainCheckpoint, fmt::format("no domain checkpoint with matching name '{}'", name));
}

Status get_backup_xml(Call& call) {
  u32 flags = 0;
  TRY(read_domain(call, flags));
  return Error(Code::NoDomainBackup, "no domain backup job present");
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_SNAPSHOT_CREATE_XML, Access::Write, create},
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
    {Proc::DOMAIN_SNAPSHOT_DELETE, Access::Write, remove},
    {Proc::DOMAIN_REVERT_TO_SNAPSHOT, Access::Write, revert},
    {Proc::DOMAIN_LIST_ALL_CHECKPOINTS, Access::Read, list_checkpoints, Where::Quick},
    {Proc::DOMAIN_CHECKPOINT_LOOKUP_BY_NAME, Access::Read, lookup_checkpoint, Where::Quick},
    {Proc::DOMAIN_BACKUP_GET_XML_DESC, Access::Read, get_backup_xml, Where::Quick},
};

}  // namespace

std::span<const Procedure> snapshot_procedures() { return kRows; }

}  // namespace atl::manage
