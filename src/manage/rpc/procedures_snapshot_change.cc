// Snapshots of disks: taking one, deleting one, going back to one. Of a running domain they are overlays; of one that does not run they are
// inside of its images, or overlays where a client asks for the disks only. Those with memory are refused.
#include <signal.h>

#include <algorithm>
#include <ctime>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/agent.h"
#include "manage/domain/definition.h"
#include "manage/domain/disk_chain.h"
#include "manage/domain/offline_snapshots.h"
#include "manage/rpc/snapshot_rows.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u32 kRedefine = 1, kCurrent = 2, kNoMetadata = 4, kHalt = 8, kDiskOnly = 16, kReuseExternal = 32, kQuiesce = 64, kAtomic = 128,
              kLive = 256, kValidate = 512;

// --- taking one

/// What is taken: overlays, or disks with a snapshot inside.
struct Taken {
  std::vector<NewOverlay> overlays;
  std::vector<std::string> inside;
};

void describe_disks(Element& disks, const Element& domain, const Taken& taken) {
  for (const Element* disk : devices_of(domain).children("disk")) {
    const std::string target = at(*disk, "target", "dev");
    Element& entry = disks.add("disk");
    entry.set("name", target);
    const bool inside = std::ranges::find(taken.inside, target) != taken.inside.end();
    auto overlay = std::ranges::find(taken.overlays, target, &NewOverlay::target);
    entry.set("snapshot", inside ? "internal" : overlay == taken.overlays.end() ? "no" : "external");
    if (overlay == taken.overlays.end()) continue;
    entry.set("type", "file");
    entry.add("driver").set("type", "qcow2");
    entry.add("source").set("file", overlay->file);
  }
}

/// The record that libvirt would keep: where each disk goes on, and what the domain was.
Snapshot make_record(const Element& asked, const std::string& name, const Element& domain, const Taken& taken, bool running) {
  Snapshot record{.tree = Element("domainsnapshot")};
  record.tree.add("name", std::string_view(name));
  if (const std::string words = text_at(asked, "description"); !words.empty()) record.tree.add("description", std::string_view(words));
  record.tree.add("state", std::string_view(running ? "disk-snapshot" : "shutoff"));
  record.tree.add("creationTime", static_cast<u64>(::time(nullptr)));
  record.tree.add("memory").set("snapshot", "no");
  describe_disks(record.tree.add("disks"), domain, taken);
  record.tree.add(domain);
  return record;
}

/// The record goes behind the one that was current.
Status keep(const SnapshotStore& store, Snapshot record) {
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
  return store.set_current(name);
}

Status redefine(Call& call, Domain& domain, const Element& asked, u32 flags) {
  const std::string name = text_at(asked, "name"), state = text_at(asked, "state");
  if (name.empty()) return xml_error("a redefined snapshot must have a name");
  TRY(xml::check_name(name));
  if ((state != "disk-snapshot" && state != "shutoff") || at(asked, "memory", "snapshot") == "internal")
    return operation_unsupported("only snapshots of disks can be redefined");
  const SnapshotStore store = snapshots_of(call, domain.name());
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
Status take_live(Call& call, Domain& domain, const std::vector<NewOverlay>& overlays, u32 flags) {
  const bool quiesce = flags & kQuiesce;
  if (quiesce) TRY(ask_agent(domain, "guest-fsfreeze-freeze", Json::object()));
  Status taken = snapshot_disks(call.daemon().domains(), domain, overlays, (flags & kReuseExternal) != 0);
  if (quiesce) (void)ask_agent(domain, "guest-fsfreeze-thaw", Json::object());
  return taken;
}

Result<Taken> take(Call& call, Domain& domain, const Element& tree, const Element& asked, const std::string& name, u32 flags) {
  Taken taken;
  if (domain.active() || (flags & kDiskOnly)) {
    taken.overlays = TRY(overlays_of(tree, asked, name));
    if (domain.active()) TRY(take_live(call, domain, taken.overlays, flags));
    else TRY(make_overlays(call.daemon().domains(), domain, taken.overlays, (flags & kReuseExternal) != 0));
  } else {
    taken.inside = TRY(internal_targets(tree, asked));
    TRY(snapshot_inside(tree, taken.inside, SnapshotAction::Create, name));
  }
  return taken;
}

/// What <memory> may say; only memory that runs can be saved.
Status check_memory(const Element& asked, bool running, u32 flags) {
  const std::string file = at(asked, "memory", "file"), given = at(asked, "memory", "snapshot");
  const std::string mode = given.empty() && !file.empty() ? "external" : given;
  if (!file.empty() && mode != "external") return xml_error(fmt::format("memory filename '{}' requires external snapshot", file));
  if (file.empty() && mode == "external") return xml_error("external memory snapshots require a filename");
  const bool saved = !mode.empty() && mode != "no";
  if (saved && (!running || (flags & kDiskOnly))) return xml_error("memory state cannot be saved with offline or disk-only snapshot");
  if (!file.empty() && !file.starts_with('/')) return xml_error(fmt::format("memory snapshot file path ({}) must be absolute", file));
  if ((flags & kLive) && (!running || mode != "external"))
    return operation_unsupported("live snapshot creation is supported only during full system snapshots");
  return {};
}

Status check_request(const Element& asked, const std::string& name, bool running, u32 flags) {
  if (name.contains('/'))
    return Error::received(Code::XmlDetail, Part::Qemu, fmt::format("invalid snapshot name '{}': name can't contain '/'", name));
  TRY(xml::check_name(name));
  TRY(check_memory(asked, running, flags));
  if (running && !(flags & kDiskOnly))
    return operation_unsupported("snapshots of a domain's memory are not supported by atoll-vmm: ask for the disks only");
  return {};
}

Error needs_disk_only() {
  return Error::received(Code::InvalidArg, Part::Qemu,
                         "Flag 'VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY' is required by flag 'VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE'");
}

/// The domain ends with its snapshot.
void end_for_snapshot(Domains& domains, Domain& domain) {
  auto vm = domain.running();
  if (!vm) return;
  (void)signal_process(vm->process, SIGTERM);  // gone already: fine
  constexpr u64 kQuiet_ns = 10'000'000'000;
  wait_for_end(vm->process, kQuiet_ns);
  domains.finish(domain, ShutoffReason::FromSnapshot);
}

Status create(Call& call) {
  std::string text;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, text, flags));
  TRY(check_flags(flags, kRedefine | kCurrent | kNoMetadata | kHalt | kDiskOnly | kReuseExternal | kQuiesce | kAtomic | kLive | kValidate,
                  "virDomainSnapshotCreateXML"));
  if ((flags & kQuiesce) && !(flags & kDiskOnly)) return needs_disk_only();
  const Element asked = TRY(xml::parse(text, "(domain_snapshot)", "domainsnapshot"));
  auto job = TRY(domain->begin_job());
  if (flags & kRedefine) return redefine(call, *domain, asked, flags);
  const bool running = domain->active();
  const std::string given = text_at(asked, "name"), name = given.empty() ? std::to_string(::time(nullptr)) : given;
  TRY(check_request(asked, name, running, flags));
  const SnapshotStore store = snapshots_of(call, domain->name());
  if (!(flags & kNoMetadata) && store.find(name)) return operation_failed(fmt::format("domain moment {} already exists", name));
  Element before = TRY(domain->current());
  const Taken taken = TRY(take(call, *domain, before, asked, name, flags));
  drop_runtime(before);
  if (!(flags & kNoMetadata)) TRY(keep(store, make_record(asked, name, before, taken, running)));
  if (flags & kHalt) end_for_snapshot(call.daemon().domains(), *domain);
  call.write(SnapshotRef{name, domain->ref()});
  return {};
}

// --- giving them up

constexpr u32 kDeleteChildren = 1, kDeleteMetadataOnly = 2, kDeleteChildrenOnly = 4;

/// Inside of images of a running domain, the VM deletes it.
Status delete_inside(Domain& domain, const Snapshot& snapshot) {
  std::vector<std::string> targets;
  for (const Element* disk : snapshot.tree.child("disks")->children("disk"))
    if (disk->attribute("snapshot") == "internal") targets.push_back(disk->attribute("name"));
  if (!domain.active()) return snapshot_inside(TRY(domain.config()), targets, SnapshotAction::Delete, snapshot.name());
  for (const auto& target : targets) {
    const Medium medium = TRY(medium_of(domain, target));
    TRY(ask(domain, "blockdev-snapshot-delete-internal-sync", {{"device", medium.node}, {"name", snapshot.name()}}));
  }
  return {};
}

/// What was written since the snapshot goes down into the image that it kept, whose file its disk goes on in.
Status merge(Call& call, Domain& domain, const SnapshotStore& store, const Snapshot& snapshot) {
  const Element tree = TRY(domain.current());
  TRY(check_no_branches(store, tree, snapshot));
  Domains& domains = call.daemon().domains();
  const Element* disks = snapshot.tree.child("disks");
  const Element* recorded = snapshot.tree.child("domain");
  for (const Element* disk : disks ? disks->children("disk") : std::vector<const Element*>()) {
    if (disk->attribute("snapshot") != "external") continue;
    const std::string target = disk->attribute("name"), overlay = at(*disk, "source", "file");
    if (TRY(drop_branch(store, tree, target, overlay))) continue;
    if (domain.active()) TRY(merge_overlay(domains, domain, target, overlay));
    else TRY(merge_overlay_offline(domains, domain, target, overlay));
    for (const Element* was : recorded ? devices_of(*recorded).children("disk") : std::vector<const Element*>())
      if (at(*was, "target", "dev") == target) TRY(follow_merge(store, overlay, at(*was, "source", "file"), at(*was, "driver", "type")));
  }
  return {};
}

Status remove_one(Call& call, const NamedSnapshot& named, const Snapshot& snapshot, bool metadata_only) {
  if (!metadata_only && snapshot.is_internal()) TRY(delete_inside(*named.domain, snapshot));
  else if (!metadata_only) TRY(merge(call, *named.domain, named.store, snapshot));
  return named.store.remove(snapshot.name());
}

Status remove(Call& call) {
  u32 flags = 0;
  const NamedSnapshot named = TRY(read_snapshot(call, flags));
  TRY(check_flags(flags, kDeleteChildren | kDeleteMetadataOnly | kDeleteChildrenOnly, "virDomainSnapshotDelete"));
  auto job = TRY(named.domain->begin_job());
  const bool metadata_only = flags & kDeleteMetadataOnly;
  auto below = (flags & (kDeleteChildren | kDeleteChildrenOnly)) ? descendants(named.store.all(), named.snapshot.name()) : std::vector<Snapshot>();
  for (auto child = below.rbegin(); child != below.rend(); ++child) TRY(remove_one(call, named, *child, metadata_only));
  if (flags & kDeleteChildrenOnly) return {};
  return remove_one(call, named, named.snapshot, metadata_only);
}

// --- going back

Status revert(Call& call) {
  u32 flags = 0;
  const NamedSnapshot named = TRY(read_snapshot(call, flags));
  constexpr u32 kRunning = 1, kPaused = 2, kForce = 4;
  TRY(check_flags(flags, kRunning | kPaused | kForce, "virDomainRevertToSnapshot"));
  if ((flags & kRunning) && (flags & kPaused)) return invalid_arg("running and paused flags in virDomainRevertToSnapshot are mutually exclusive");
  Domain& domain = *named.domain;
  Domains& domains = call.daemon().domains();
  auto job = TRY(domain.begin_job());
  if (!domain.facts().persistent) return operation_invalid("transient domain needs to request run or pause to revert to inactive snapshot");
  end_for_snapshot(domains, domain);  // what runs has another past
  TRY(revert_disks(domains, domain, named.snapshot));
  TRY(named.store.set_current(named.snapshot.name()));
  domain.set_state(make_state(RunState::Shutoff, ShutoffReason::FromSnapshot));
  if (flags & (kRunning | kPaused)) return domains.start(domain, {.paused = (flags & kPaused) != 0});
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_SNAPSHOT_CREATE_XML, Access::Write, create},
    {Proc::DOMAIN_SNAPSHOT_DELETE, Access::Write, remove},
    {Proc::DOMAIN_REVERT_TO_SNAPSHOT, Access::Write, revert},
};

}  // namespace

std::span<const Procedure> snapshot_change_rows() { return kRows; }

}  // namespace atl::manage
