#include "manage/domain/offline_snapshots.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>

#include <fmt/format.h>

#include "manage/domain/definition.h"
#include "manage/domain/disk_chain.h"

namespace atl::manage {
namespace {

Element* find_target(Element& tree, const std::string& target) {
  for (Element* disk : each(devices_of(tree), "disk"))
    if (at(*disk, "target", "dev") == target) return disk;
  return nullptr;
}

std::vector<const Element*> disks_of(const Snapshot& snapshot, std::string_view kind) {
  std::vector<const Element*> list;
  const Element* disks = snapshot.tree.child("disks");
  for (const Element* disk : disks ? disks->children("disk") : std::vector<const Element*>())
    if (disk->attribute("snapshot") == kind) list.push_back(disk);
  return list;
}

/// What the client says of one disk; "" if nothing.
std::string mode_asked(const Element& snapshot, const Element& disk) {
  const Element* disks = snapshot.child("disks");
  for (const Element* asked : disks ? disks->children("disk") : std::vector<const Element*>())
    if (asked->attribute("name") == at(disk, "target", "dev") || asked->attribute("name") == at(disk, "source", "file"))
      return asked->attribute("snapshot");
  return {};
}

struct ImageFile {
  std::string path, format;
};

/// The image of a stored definition's disk.
Result<ImageFile> image_of(const Element& tree, const std::string& target) {
  for (const Element* disk : devices_of(tree).children("disk")) {
    if (at(*disk, "target", "dev") != target) continue;
    const auto images = chain_of(*disk);
    if (!images.empty() && !images[0].path.empty()) return ImageFile{images[0].path, images[0].format};
  }
  return config_unsupported(fmt::format("disk '{}' has no image of the host", target));
}

void set_image(Element& disk, const ImageFile& image) {
  ensure(disk, "source").set("file", image.path).remove_attribute("dev");
  disk.set("type", "file");
  ensure(disk, "driver").set("type", image.format);
}

/// An empty image that reads as `base`.
Status create_overlay(const std::string& path, const ImageFile& base) {
  const ImageFacts facts = TRY(inspect_image(base.path, base.format));
  ImageRequest request;
  request.path = path;
  request.format = "qcow2";
  request.capacity_bytes = facts.capacity_bytes;
  request.backing_path = base.path;
  request.backing_format = base.format;
  return create_image(request);
}

}  // namespace

Result<std::vector<std::string>> internal_targets(const Element& config, const Element& snapshot) {
  TRY(check_snapshot_disks(config, snapshot));
  std::vector<std::string> targets;
  for (const Element* disk : devices_of(config).children("disk")) {
    const std::string target = at(*disk, "target", "dev"), mode = mode_asked(snapshot, *disk);
    if (mode == "no" || mode == "manual") continue;
    if (mode == "external") return config_unsupported(fmt::format("disk '{}' must use snapshot mode 'internal'", target));
    if (mode.empty() && (disk->attribute("device") != "disk" || disk->child("readonly"))) continue;
    const ImageFile image = TRY(image_of(config, target));
    if (image.format != "qcow2")
      return config_unsupported(fmt::format("internal snapshot for disk {} unsupported for storage type {}", target, image.format));
    targets.push_back(target);
  }
  if (targets.empty()) return config_unsupported("nothing selected for snapshot");
  return targets;
}

Status snapshot_inside(const Element& config, const std::vector<std::string>& targets, SnapshotAction action, const std::string& name) {
  std::vector<ImageFile> done;
  for (const auto& target : targets) {
    const ImageFile image = TRY(image_of(config, target));
    Status status = snapshot_image(image.path, image.format, action, name);
    if (!status) {
      if (action == SnapshotAction::Create)
        for (const auto& other : done) (void)snapshot_image(other.path, other.format, SnapshotAction::Delete, name);
      return operation_failed(fmt::format("snapshot '{}' of disk '{}': {}", name, target, status.error().message()));
    }
    done.push_back(image);
  }
  return {};
}

Status make_overlays(Domains& domains, Domain& domain, const std::vector<NewOverlay>& overlays, bool reuse) {
  Element config = TRY(domain.config());
  std::vector<std::string> made;
  auto each_overlay = [&]() -> Status {
    for (const auto& overlay : overlays) {
      if (!reuse && ::access(overlay.file.c_str(), F_OK) == 0)
        return config_unsupported(fmt::format("external snapshot file for disk {} already exists and is not a block device: {}", overlay.target, overlay.file));
      if (!reuse) TRY(create_overlay(overlay.file, {overlay.image, overlay.format}));
      if (!reuse) made.push_back(overlay.file);
      if (Element* disk = find_target(config, overlay.target)) set_image(*disk, {overlay.file, "qcow2"});
    }
    put_in_order(config);
    return domains.store(domain, config);
  };
  Status done = each_overlay();
  if (!done)
    for (const auto& file : made) ::unlink(file.c_str());
  return done;
}

Status merge_overlay_offline(Domains& domains, Domain& domain, const std::string& target, const std::string& overlay) {
  Element config = TRY(domain.config());
  const ImageFile top = TRY(image_of(config, target));
  std::vector<ImageFile> chain = {top};
  for (const auto& backing : TRY(backing_files(top.path, top.format))) chain.push_back({backing.path, backing.format});
  auto place = std::ranges::find(chain, overlay, &ImageFile::path);
  if (place == chain.end() || std::next(place) == chain.end())
    return operation_failed(fmt::format("disk '{}' does not stand on '{}' any more: only the snapshot's record can be deleted", target, overlay));
  const ImageFile below = *std::next(place);
  TRY(merge_into_backing(place->path, place->format));
  if (place == chain.begin()) {
    if (Element* disk = find_target(config, target)) set_image(*disk, below);
    put_in_order(config);
    TRY(domains.store(domain, config));
  } else {
    const ImageFile above = *std::prev(place);
    TRY(record_backing(above.path, above.format, below.path, below.format));
  }
  if (::unlink(overlay.c_str()) < 0) return os_error(fmt::format("cannot delete '{}'", overlay));
  return {};
}

Result<bool> drop_branch(const SnapshotStore& store, const Element& tree, const std::string& target, const std::string& overlay) {
  const ImageFile top = TRY(image_of(tree, target));
  const auto below = TRY(backing_files(top.path, top.format));
  if (top.path == overlay || std::ranges::find(below, overlay, &BackingFile::path) != below.end()) return false;
  for (const auto& other : store.all())
    for (const Element* disk : other.tree.child("domain") ? devices_of(*other.tree.child("domain")).children("disk") : std::vector<const Element*>())
      if (at(*disk, "source", "file") == overlay)
        return operation_unsupported(fmt::format("snapshot '{}' stands on '{}': delete it first", other.name(), overlay));
  if (::unlink(overlay.c_str()) < 0 && errno != ENOENT) return os_error(fmt::format("cannot delete '{}'", overlay));
  return true;
}

Status check_no_branches(const SnapshotStore& store, const Element& tree, const Snapshot& snapshot) {
  for (const Element* merged : disks_of(snapshot, "external")) {
    const std::string target = merged->attribute("name");
    const ImageFile top = TRY(image_of(tree, target));
    std::vector<std::string> chain = {top.path};
    for (const auto& backing : TRY(backing_files(top.path, top.format))) chain.push_back(backing.path);
    for (const auto& other : store.all())
      for (const Element* disk : other.name() == snapshot.name() ? std::vector<const Element*>() : disks_of(other, "external")) {
        const std::string file = at(*disk, "source", "file");
        const bool elsewhere = disk->attribute("name") == target && std::ranges::find(chain, file) == chain.end();
        if (elsewhere && ::access(file.c_str(), F_OK) == 0)
          return operation_unsupported(fmt::format("'{}' of snapshot '{}' stands on the images that would change: delete that snapshot first",
                                                   file, other.name()));
      }
  }
  return {};
}

Status follow_merge(const SnapshotStore& store, const std::string& overlay, const std::string& image, const std::string& format) {
  for (auto& snapshot : store.all()) {
    bool changed = false;
    Element* domain = snapshot.tree.child("domain");
    for (Element* disk : domain ? each(devices_of(*domain), "disk") : std::vector<Element*>()) {
      if (at(*disk, "source", "file") != overlay) continue;
      set_image(*disk, {image, format});
      changed = true;
    }
    if (changed) TRY(store.save(snapshot));
  }
  return {};
}

Status revert_disks(Domains& domains, Domain& domain, const Snapshot& snapshot) {
  const Element* recorded = snapshot.tree.child("domain");
  if (!recorded) return Error(Code::ConfigUnsupported, fmt::format("snapshot '{}' lacks domain '{}' rollback info", snapshot.name(), domain.name()));
  Element config = *recorded;
  std::vector<std::string> inside;
  for (const Element* disk : disks_of(snapshot, "internal")) inside.push_back(disk->attribute("name"));
  if (!inside.empty()) TRY(snapshot_inside(config, inside, SnapshotAction::Apply, snapshot.name()));
  for (const Element* disk : disks_of(snapshot, "external")) {
    const std::string target = disk->attribute("name");
    const ImageFile base = TRY(image_of(config, target));
    const size_t slash = base.path.rfind('/'), dot = base.path.rfind('.');
    const std::string stem = dot != std::string::npos && dot > slash ? base.path.substr(0, dot) : base.path;
    const std::string file = fmt::format("{}.{}", stem, ::time(nullptr));
    TRY(create_overlay(file, base));
    if (Element* changed = find_target(config, target)) set_image(*changed, {file, "qcow2"});
  }
  TRY(complete_definition(config, domains.definition_host()));
  return domains.store(domain, config);
}

}  // namespace atl::manage
