#include "manage/domain/disk_chain.h"

#include <sys/stat.h>

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/aliases.h"
#include "manage/domain/vm_stats.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kAnswer_ns = 30'000'000'000;

std::string path_of(const Element& layer) {
  const std::string file = at(layer, "source", "file");
  return file.empty() ? at(layer, "source", "dev") : file;
}

bool is_block_device(const std::string& path) {
  struct stat now;
  return ::stat(path.c_str(), &now) == 0 && S_ISBLK(now.st_mode);
}

Element* find_target(Element& tree, const std::string& target) {
  for (Element* disk : each(devices_of(tree), "disk"))
    if (at(*disk, "target", "dev") == target) return disk;
  return nullptr;
}

/// The number in "libvirt-3-format"; "" in other names.
std::string index_of_node(const std::string& node) {
  constexpr std::string_view kHead = "libvirt-", kTail = "-format";
  if (!node.starts_with(kHead) || !node.ends_with(kTail)) return {};
  return node.substr(kHead.size(), node.size() - kHead.size() - kTail.size());
}

std::map<std::string, std::string> known_images(const Element& disk) {
  std::map<std::string, std::string> known;
  for (const auto& image : chain_of(disk)) known[image.path] = image.index;
  if (const Element* mirror = disk.child("mirror")) known[path_of(*mirror)] = at(*mirror, "source", "index");
  return known;
}

void put_source(Element& disk, const Medium& now) {
  Element& source = ensure(disk, "source");
  const bool device = is_block_device(now.file);
  source.remove_attribute(device ? "file" : "dev");
  source.set(device ? "dev" : "file", now.file);
  disk.set("type", device ? "block" : "file");
  ensure(disk, "driver").set("type", now.format);
}

}  // namespace

std::vector<ChainImage> chain_of(const Element& disk) {
  std::vector<ChainImage> images;
  if (!disk.child("source")) return images;
  images.push_back({at(disk, "source", "index"), path_of(disk), at(disk, "driver", "type")});
  for (const Element* layer = disk.child("backingStore"); layer && layer->child("source"); layer = layer->child("backingStore"))
    images.push_back({layer->attribute("index"), path_of(*layer), at(*layer, "format", "type")});
  return images;
}

Result<size_t> find_image(const Element& disk, const std::string& name) {
  const auto images = chain_of(disk);
  const std::string target = at(disk, "target", "dev");
  for (size_t i = 0; i < images.size(); ++i)
    if (images[i].path == name || fmt::format("{}[{}]", target, images[i].index) == name) return i;
  if (!images.empty() && name == target) return size_t{0};
  if (name.starts_with(target + "[") && name.ends_with("]") && !name.ends_with("[0]"))
    return invalid_arg(fmt::format("could not find backing store index '{}' in chain for '{}'", name.substr(target.size() + 1, name.size() - target.size() - 2), target));
  return invalid_arg(fmt::format("could not find image '{}' in chain for '{}'", name, target));
}

Status describe_chain(RunningVm& vm, Element& disk, const std::string& path, const std::map<std::string, std::string>& known) {
  Element* above = &disk;
  disk.remove("backingStore");
  for (const auto& backing : TRY(backing_files(path, at(disk, "driver", "type")))) {
    TRY(vm.files.give(backing.path, false));
    const bool device = is_block_device(backing.path);
    Element& layer = above->add("backingStore");
    auto number = known.find(backing.path);
    layer.set("type", device ? "block" : "file").set("index", number == known.end() ? std::to_string(vm.next_node++) : number->second);
    layer.add("format").set("type", backing.format);
    layer.add("source").set(device ? "dev" : "file", backing.path);
    above = &layer;
  }
  above->add("backingStore");
  return {};
}

Result<Medium> medium_of(const Domain& domain, const std::string& path) {
  auto tree = domain.live();
  auto monitor = TRY(domain.monitor());
  if (!tree) return operation_invalid("domain is not running");
  const Element* disk = TRY(find_disk(*tree, path, kNotInDomain));
  const std::string alias = alias_of(*disk);
  for (const Json& drive : TRY(monitor->execute("query-block", Json::object(), kAnswer_ns))) {
    const std::string device = drive.value("qdev", "");
    if (device != alias && !device.ends_with("/" + alias) && !device.ends_with("/" + alias + "/virtio-backend")) continue;
    const Json inserted = drive.value("inserted", Json::object());
    return Medium{.alias = alias, .target = at(*disk, "target", "dev"), .node = inserted.value("node-name", ""),
                  .file = inserted.value("file", ""), .format = inserted.value("drv", "")};
  }
  return operation_invalid(fmt::format("disk '{}' does not currently have a source assigned", path));
}

Status follow_medium(Domains& domains, Domain& domain, const std::string& target) {
  const Medium now = TRY(medium_of(domain, target));
  auto vm = domain.running();
  auto live = domain.live();
  if (!vm || !live || now.file.empty()) return {};
  Element next = *TRY(find_disk(*live, target, kNotInDomain));
  const std::string old_path = path_of(next);
  auto known = known_images(next);
  put_source(next, now);
  const std::string index = index_of_node(now.node);
  next.child("source")->set("index", index.empty() ? std::to_string(vm->next_node++) : index);
  next.remove("mirror");
  TRY(describe_chain(*vm, next, now.file, known));
  const auto kept = chain_of(next);
  for (const auto& [path, number] : known) {
    if (std::ranges::find(kept, path, &ChainImage::path) != kept.end()) continue;
    for (const auto& node : {format_node(number), storage_node(number)})
      (void)vm->monitor->execute("blockdev-del", {{"node-name", node}}, kAnswer_ns);
    vm->files.take_back(path);
  }
  domain.change_live([&](Element& tree) {
    if (Element* disk = find_target(tree, target)) *disk = next;
    put_in_order(tree);
  });
  domains.save_status(domain);
  if (!domain.facts().persistent || now.file == old_path) return {};
  Element config = TRY(domain.config());
  Element* disk = find_target(config, target);
  if (!disk || path_of(*disk) != old_path) return {};
  put_source(*disk, now);
  return domains.store(domain, config);
}

}  // namespace atl::manage
