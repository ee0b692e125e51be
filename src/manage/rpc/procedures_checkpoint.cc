// Checkpoints: made, listed, given up.
#include <algorithm>
#include <ctime>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/agent.h"
#include "manage/domain/checkpoints.h"
#include "manage/domain/definition.h"
#include "manage/domain/disk_chain.h"
#include "manage/rpc/snapshot_rows.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

SnapshotStore checkpoints_of(Call& call, const Domain& domain) {
  return SnapshotStore::of_checkpoints(call.daemon().config().paths.state, domain.name());
}

struct NamedCheckpoint {
  DomainPtr domain;
  SnapshotStore store;
  Snapshot checkpoint;
};

template <class... T>
Result<NamedCheckpoint> read_checkpoint(Call& call, T&... rest) {
  CheckpointRef ref;
  TRY(call.read(ref, rest...));
  auto domain = TRY(call.daemon().domains().find(ref.domain.uuid));
  SnapshotStore store = checkpoints_of(call, *domain);
  Snapshot checkpoint = TRY(store.find(ref.name));
  return NamedCheckpoint{std::move(domain), std::move(store), std::move(checkpoint)};
}

Status redefine(Call& call, Domain& domain, const Element& asked) {
  const std::string name = text_at(asked, "name");
  TRY(xml::check_name(name));
  const SnapshotStore store = checkpoints_of(call, domain);
  TRY(store.save({.tree = asked}));
  TRY(store.set_current(name));
  call.write(CheckpointRef{name, domain.ref()});
  return {};
}

Status create(Call& call) {
  std::string text;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, text, flags));
  constexpr u32 kRedefine = 1, kQuiesce = 2;
  TRY(check_flags(flags, kRedefine | kQuiesce, "virDomainCheckpointCreateXML"));
  const Element asked = TRY(xml::parse(text, "(domain_checkpoint)", "domaincheckpoint"));
  auto job = TRY(domain->begin_job());
  if (flags & kRedefine) return redefine(call, *domain, asked);
  if (!domain->active()) return operation_unsupported("cannot create checkpoint for inactive domain");
  const SnapshotStore store = checkpoints_of(call, *domain);
  const NewCheckpoint checkpoint = TRY(plan_checkpoint(*domain, store, asked));
  const Json actions = TRY(checkpoint_actions(*domain, checkpoint));
  const bool quiesce = flags & kQuiesce;
  if (quiesce) TRY(ask_agent(*domain, "guest-fsfreeze-freeze", Json::object()));
  auto added = ask(*domain, "transaction", {{"actions", actions}});
  if (quiesce) (void)ask_agent(*domain, "guest-fsfreeze-thaw", Json::object());
  TRY(std::move(added));
  TRY(keep_checkpoint(store, checkpoint));
  call.write(CheckpointRef{checkpoint.name, domain->ref()});
  return {};
}

// --- looking at them

/// With the bytes written since, if a client asks for them.
Status add_sizes(Domain& domain, Element& tree) {
  const Json drives = TRY(ask(domain, "query-named-block-nodes", Json::object()));
  for (Element* disk : tree.child("disks") ? each(*tree.child("disks"), "disk") : std::vector<Element*>()) {
    if (disk->attribute("checkpoint") != "bitmap") continue;
    const Medium medium = TRY(medium_of(domain, disk->attribute("name")));
    for (const Json& drive : drives)
      for (const Json& bitmap : drive.value("node-name", "") == medium.node ? drive.value("dirty-bitmaps", Json::array()) : Json::array())
        if (bitmap.value("name", "") == disk->attribute("bitmap")) disk->set("size", bitmap.value("count", u64{0}));
  }
  return {};
}

Status get_xml(Call& call) {
  u32 flags = 0;
  const NamedCheckpoint named = TRY(read_checkpoint(call, flags));
  constexpr u32 kSecure = 1, kNoDomain = 2, kSize = 4;
  TRY(check_flags(flags, kSecure | kNoDomain | kSize, "virDomainCheckpointGetXMLDesc"));
  Element tree = named.checkpoint.tree;
  if (flags & kSize) TRY(add_sizes(*named.domain, tree));
  if (flags & kNoDomain) tree.remove("domain");
  if (Element* domain = tree.child("domain"); domain && !(flags & kSecure))
    for (Element* graphics : each(devices_of(*domain), "graphics")) graphics->remove_attribute("passwd");
  call.write(xml::write(tree));
  return {};
}

// VIR_DOMAIN_CHECKPOINT_LIST_*: 1 is roots or descendants.
constexpr u32 kListRoots = 1, kListTopological = 2, kListLeaves = 4, kListNoLeaves = 8, kListAll = 15;

Result<std::vector<CheckpointRef>> chosen(const Domain& domain, const SnapshotStore& store, const std::string& above, u32 flags) {
  TRY(check_flags(flags, kListAll, "virDomainListAllCheckpoints"));
  const auto all = store.all();
  const bool near_only = above.empty() ? (flags & kListRoots) != 0 : !(flags & kListRoots);
  std::vector<CheckpointRef> list;
  // Below "" are the roots and what follows them, parents first.
  for (const auto& checkpoint : descendants(all, above)) {
    const bool leaf = std::ranges::none_of(all, [&](const Snapshot& other) { return other.parent() == checkpoint.name(); });
    if (near_only && checkpoint.parent() != above) continue;
    if ((flags & (kListLeaves | kListNoLeaves)) && !(flags & (leaf ? kListLeaves : kListNoLeaves))) continue;
    list.push_back({checkpoint.name(), domain.ref()});
  }
  if (!(flags & kListTopological)) std::ranges::sort(list, {}, &CheckpointRef::name);
  return list;
}

Status list_all(Call& call) {
  i32 wanted = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, wanted, flags));
  const auto list = TRY(chosen(*domain, checkpoints_of(call, *domain), "", flags));
  call.write(wanted ? list : std::vector<CheckpointRef>(), static_cast<i32>(list.size()));
  return {};
}

Status list_children(Call& call) {
  i32 wanted = 0;
  u32 flags = 0;
  const NamedCheckpoint named = TRY(read_checkpoint(call, wanted, flags));
  const auto list = TRY(chosen(*named.domain, named.store, named.checkpoint.name(), flags));
  call.write(wanted ? list : std::vector<CheckpointRef>(), static_cast<i32>(list.size()));
  return {};
}

Status lookup(Call& call) {
  std::string name;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, name, flags));
  TRY(checkpoints_of(call, *domain).find(name));
  call.write(CheckpointRef{name, domain->ref()});
  return {};
}

Status get_parent(Call& call) {
  u32 flags = 0;
  const NamedCheckpoint named = TRY(read_checkpoint(call, flags));
  const std::string parent = named.checkpoint.parent();
  if (parent.empty()) return Error(Code::NoDomainCheckpoint, fmt::format("checkpoint '{}' does not have a parent", named.checkpoint.name()));
  call.write(CheckpointRef{parent, named.domain->ref()});
  return {};
}

// --- giving them up

Status remove_one(const NamedCheckpoint& named, const Snapshot& checkpoint, bool metadata_only) {
  const Element* disks = checkpoint.tree.child("disks");
  for (const Element* disk : disks && !metadata_only ? disks->children("disk") : std::vector<const Element*>()) {
    if (disk->attribute("checkpoint") != "bitmap") continue;
    const Medium medium = TRY(medium_of(*named.domain, disk->attribute("name")));
    TRY(ask(*named.domain, "block-dirty-bitmap-remove", {{"node", medium.node}, {"name", disk->attribute("bitmap")}}));
  }
  return named.store.remove(checkpoint.name());
}

Status remove(Call& call) {
  u32 flags = 0;
  const NamedCheckpoint named = TRY(read_checkpoint(call, flags));
  constexpr u32 kChildren = 1, kMetadataOnly = 2, kChildrenOnly = 4;
  TRY(check_flags(flags, kChildren | kMetadataOnly | kChildrenOnly, "virDomainCheckpointDelete"));
  auto job = TRY(named.domain->begin_job());
  const bool metadata_only = flags & kMetadataOnly;
  if (!metadata_only && !named.domain->active()) return operation_unsupported("cannot delete checkpoint for inactive domain");
  auto below = (flags & (kChildren | kChildrenOnly)) ? descendants(named.store.all(), named.checkpoint.name()) : std::vector<Snapshot>();
  for (auto child = below.rbegin(); child != below.rend(); ++child) TRY(remove_one(named, *child, metadata_only));
  return (flags & kChildrenOnly) ? Status() : remove_one(named, named.checkpoint, metadata_only);
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_CHECKPOINT_CREATE_XML, Access::Write, create},
    {Proc::DOMAIN_CHECKPOINT_GET_XML_DESC, Access::Read, get_xml},
    {Proc::DOMAIN_LIST_ALL_CHECKPOINTS, Access::Read, list_all, Where::Quick},
    {Proc::DOMAIN_CHECKPOINT_LIST_ALL_CHILDREN, Access::Read, list_children, Where::Quick},
    {Proc::DOMAIN_CHECKPOINT_LOOKUP_BY_NAME, Access::Read, lookup, Where::Quick},
    {Proc::DOMAIN_CHECKPOINT_GET_PARENT, Access::Read, get_parent, Where::Quick},
    {Proc::DOMAIN_CHECKPOINT_DELETE, Access::Write, remove},
};

}  // namespace

std::span<const Procedure> checkpoint_rows() { return kRows; }

}  // namespace atl::manage
