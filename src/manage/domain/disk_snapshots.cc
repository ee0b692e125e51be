// External snapshots: disks go on in new overlays, all at the same moment.
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/aliases.h"
#include "manage/domain/block_jobs.h"
#include "manage/domain/disk_chain.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kAnswer_ns = 30'000'000'000;

/// Where a disk goes on: as the client says, else beside the image with the snapshot's name for an ending.
std::string overlay_path(const Element* asked, const std::string& image, const std::string& name) {
  if (const std::string file = asked ? at(*asked, "source", "file") : std::string(); !file.empty()) return file;
  const size_t slash = image.rfind('/'), dot = image.rfind('.');
  const bool has_ending = dot != std::string::npos && (slash == std::string::npos || dot > slash);
  return image.substr(0, has_ending ? dot : std::string::npos) + "." + name;
}

const Element* asked_for(const Element& snapshot, const Element& disk) {
  const Element* disks = snapshot.child("disks");
  for (const Element* asked : disks ? disks->children("disk") : std::vector<const Element*>())
    if (asked->attribute("name") == at(disk, "target", "dev") || asked->attribute("name") == at(disk, "source", "file")) return asked;
  return nullptr;
}

}  // namespace

Status check_snapshot_disks(const Element& tree, const Element& snapshot) {
  const Element* disks = snapshot.child("disks");
  if (!disks) return {};
  std::set<std::string> names;
  for (const Element* asked : disks->children("disk")) {
    const std::string name = asked->attribute("name"), mode = asked->attribute("snapshot");
    constexpr std::string_view kModes[] = {"", "no", "internal", "external", "manual"};
    if (std::ranges::find(kModes, mode) == std::end(kModes))
      return xml_error(fmt::format("Invalid value for attribute 'snapshot' in element 'disk': '{}'.", mode));
    const auto all = devices_of(tree).children("disk");
    const bool known = std::ranges::any_of(all, [&](const Element* d) { return at(*d, "target", "dev") == name || at(*d, "source", "file") == name; });
    if (!known) return config_unsupported(fmt::format("no disk named '{}'", name));
    if (!names.insert(name).second) return config_unsupported(fmt::format("disk '{}' specified twice", name));
  }
  return {};
}

Result<std::vector<NewOverlay>> overlays_of(const Element& tree, const Element& snapshot, const std::string& name) {
  TRY(check_snapshot_disks(tree, snapshot));
  std::vector<NewOverlay> list;
  for (const Element* disk : devices_of(tree).children("disk")) {
    const std::string target = at(*disk, "target", "dev");
    const Element* asked = asked_for(snapshot, *disk);
    const std::string mode = asked ? asked->attribute("snapshot") : "";
    if (mode == "no" || mode == "manual") continue;
    if (!asked && (disk->attribute("device") != "disk" || disk->child("readonly"))) continue;
    if (mode == "internal") return config_unsupported(fmt::format("active qemu domains require external disk snapshots; disk {} requested internal", target));
    const auto images = chain_of(*disk);
    if (images.empty()) return config_unsupported(fmt::format("disk '{}' has no source to take a snapshot of", target));
    NewOverlay overlay{.target = target, .image = images[0].path, .format = images[0].format, .file = overlay_path(asked, images[0].path, name)};
    if (overlay.file == overlay.image) return invalid_arg(fmt::format("snapshot of disk '{}' would overwrite it", target));
    list.push_back(std::move(overlay));
  }
  if (list.empty()) return config_unsupported("nothing selected for snapshot");
  return list;
}

Status snapshot_disks(Domains& domains, Domain& domain, const std::vector<NewOverlay>& overlays, bool reuse) {
  auto tree = domain.live();
  auto vm = domain.running();
  auto monitor = TRY(domain.monitor());
  if (!tree || !vm) return operation_invalid("domain is not running");
  Json actions = Json::array();
  for (const auto& overlay : overlays) {
    const Medium medium = TRY(medium_of(domain, overlay.target));
    if (reuse && ::access(overlay.file.c_str(), F_OK) < 0)
      return Error(Code::SystemError, fmt::format("missing existing file for disk {}: {}: {}", overlay.target, overlay.file, std::strerror(errno)));
    if (::access(overlay.file.c_str(), F_OK) == 0 && !reuse)
      return config_unsupported(fmt::format("external snapshot file for disk {} already exists and is not a block device: {}", overlay.target, overlay.file));
    TRY(make_image_file(*vm, overlay.file, reuse));
    actions.push_back({{"type", "blockdev-snapshot-sync"},
                       {"data", {{"node-name", medium.node}, {"snapshot-file", overlay.file}, {"format", "qcow2"},
                                 {"snapshot-node-name", format_node(std::to_string(vm->next_node++))},
                                 {"mode", reuse ? "existing" : "absolute-paths"}}}});
  }
  auto done = monitor->execute("transaction", {{"actions", std::move(actions)}}, kAnswer_ns);
  if (!done) {
    for (const auto& overlay : overlays) {
      vm->files.take_back(overlay.file);
      if (!reuse) ::unlink(overlay.file.c_str());
    }
    return std::move(done).error();
  }
  for (const auto& overlay : overlays) TRY(follow_medium(domains, domain, overlay.target));
  return {};
}

}  // namespace atl::manage
