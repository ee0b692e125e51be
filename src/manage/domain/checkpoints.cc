#include "manage/domain/checkpoints.h"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/definition.h"
#include "manage/domain/disk_chain.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

const Element* asked_for(const Element& asked, const Element& disk) {
  const Element* disks = asked.child("disks");
  for (const Element* entry : disks ? disks->children("disk") : std::vector<const Element*>())
    if (entry->attribute("name") == at(disk, "target", "dev") || entry->attribute("name") == at(disk, "source", "file")) return entry;
  return nullptr;
}

/// The disks that writes are recorded of: those named, or all that can be written.
Result<std::vector<DiskBitmap>> bitmaps_of(const Element& tree, const Element& asked, const std::string& name) {
  std::vector<DiskBitmap> list;
  for (const Element* disk : devices_of(tree).children("disk")) {
    const Element* entry = asked_for(asked, *disk);
    const bool all = !asked.child("disks");
    if (entry ? entry->attribute("checkpoint") == "no" : !all || disk->child("readonly") || !disk->child("source")) continue;
    const std::string target = at(*disk, "target", "dev"), format = at(*disk, "driver", "type");
    if (format != "qcow2") return config_unsupported(fmt::format("checkpoint for disk {} unsupported for storage type {}", target, format));
    const std::string own = entry ? entry->attribute("bitmap") : "";
    list.push_back({target, own.empty() ? name : own});
  }
  if (list.empty()) return config_unsupported("nothing selected for checkpoint");
  return list;
}

Snapshot make_record(const Element& asked, const std::string& name, const std::string& parent, const Element& domain,
                     const std::vector<DiskBitmap>& bitmaps) {
  Snapshot record{.tree = Element("domaincheckpoint"), .current = true};
  record.tree.add("name", std::string_view(name));
  if (const std::string words = text_at(asked, "description"); !words.empty()) record.tree.add("description", std::string_view(words));
  if (!parent.empty()) record.tree.add("parent").add("name", std::string_view(parent));
  record.tree.add("creationTime", static_cast<u64>(::time(nullptr)));
  Element& disks = record.tree.add("disks");
  for (const Element* disk : devices_of(domain).children("disk")) {
    const std::string target = at(*disk, "target", "dev");
    auto bitmap = std::ranges::find(bitmaps, target, &DiskBitmap::target);
    Element& entry = disks.add("disk");
    entry.set("name", target).set("checkpoint", bitmap == bitmaps.end() ? "no" : "bitmap");
    if (bitmap != bitmaps.end()) entry.set("bitmap", bitmap->name);
  }
  record.tree.add(domain);
  return record;
}

std::string current_name(const SnapshotStore& store) {
  for (const auto& checkpoint : store.all())
    if (checkpoint.current) return checkpoint.name();
  return {};
}

}  // namespace

Result<NewCheckpoint> plan_checkpoint(const Domain& domain, const SnapshotStore& store, const Element& asked) {
  const std::string given = text_at(asked, "name"), name = given.empty() ? std::to_string(::time(nullptr)) : given;
  TRY(xml::check_name(name));
  if (store.find(name)) return operation_failed(fmt::format("domain checkpoint {} already exists", name));
  Element tree = TRY(domain.current());
  std::vector<DiskBitmap> bitmaps = TRY(bitmaps_of(tree, asked, name));
  drop_runtime(tree);
  Snapshot record = make_record(asked, name, current_name(store), tree, bitmaps);
  return NewCheckpoint{.name = name, .bitmaps = std::move(bitmaps), .record = std::move(record)};
}

Result<Json> checkpoint_actions(const Domain& domain, const NewCheckpoint& checkpoint) {
  Json actions = Json::array();
  for (const auto& bitmap : checkpoint.bitmaps) {
    const Medium medium = TRY(medium_of(domain, bitmap.target));
    actions.push_back({{"type", "block-dirty-bitmap-add"}, {"data", {{"node", medium.node}, {"name", bitmap.name}, {"persistent", true}}}});
  }
  return actions;
}

Status keep_checkpoint(const SnapshotStore& store, const NewCheckpoint& checkpoint) {
  TRY(store.save(checkpoint.record));
  return store.set_current(checkpoint.name);
}

std::string checkpoint_bitmap(const Snapshot& checkpoint, const std::string& target) {
  const Element* disks = checkpoint.tree.child("disks");
  for (const Element* disk : disks ? disks->children("disk") : std::vector<const Element*>())
    if (disk->attribute("name") == target && disk->attribute("checkpoint") == "bitmap") return disk->attribute("bitmap");
  return {};
}

}  // namespace atl::manage
