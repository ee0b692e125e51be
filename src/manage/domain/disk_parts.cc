// Disks: block nodes and front ends.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/aliases.h"
#include "manage/domain/disk_secrets.h"
#include "manage/domain/vm_parts.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

/// QEMU's manual, -drive cache=; libvirt splits it between the nodes and the device.
struct CacheMode {
  std::string_view name;
  bool writeback, direct, no_flush;
};
constexpr CacheMode kCacheModes[] = {{"writeback", true, false, false},    {"none", true, true, false},   {"writethrough", false, false, false},
                                     {"directsync", false, true, false},   {"unsafe", true, false, true}};

const CacheMode* cache_mode(const Element& disk) {
  const std::string name = at(disk, "driver", "cache");
  for (const auto& mode : kCacheModes)
    if (mode.name == name) return &mode;
  return nullptr;
}

std::string host_name(const Element& source) { return at(source, "host", "name"); }

Result<Json> nbd_node(const Element& source) {
  Json node = {{"driver", "nbd"}};
  if (at(source, "host", "transport") == "unix") {
    node["server"] = {{"type", "unix"}, {"path", at(source, "host", "socket")}};
  } else {
    const std::string port = at(source, "host", "port");
    node["server"] = {{"type", "inet"}, {"host", host_name(source)}, {"port", port.empty() ? "10809" : port}};
  }
  if (source.has_attribute("name")) node["export"] = source.attribute("name");
  return node;
}

Result<Json> network_node(const Element& source) {
  const std::string protocol = source.attribute("protocol");
  if (protocol == "nbd") return nbd_node(source);
  const std::string port = at(source, "host", "port");
  const std::string authority = port.empty() ? host_name(source) : fmt::format("{}:{}", host_name(source), port);
  if (protocol == "http" || protocol == "https" || protocol == "ftp" || protocol == "ftps") {
    const std::string name = source.attribute("name");
    return Json{{"driver", protocol}, {"url", fmt::format("{}://{}/{}", protocol, authority, name.starts_with('/') ? name.substr(1) : name)}};
  }
  if (protocol == "ssh")
    return Json{{"driver", "ssh"}, {"path", source.attribute("name")},
                {"server", {{"host", host_name(source)}, {"port", port.empty() ? "22" : port}}}};
  return config_unsupported(fmt::format("disks over '{}' are not supported by atoll-vmm", protocol));
}

/// The node that reaches the bytes.
Result<Json> source_node(const Element& source, const std::string& type) {
  if (type == "network") return network_node(source);
  if (type == "block") return Json{{"driver", "host_device"}, {"filename", source.attribute("dev")}};
  if (type == "file") return Json{{"driver", "file"}, {"filename", source.attribute("file")}};
  return config_unsupported(fmt::format("disks of type '{}' cannot be opened", type));
}

void put_mode(const Element& disk, Json& node) {
  if (const CacheMode* mode = cache_mode(disk)) node["cache"] = {{"direct", mode->direct}, {"no-flush", mode->no_flush}};
  if (const std::string discard = at(disk, "driver", "discard"); !discard.empty()) node["discard"] = discard;
}

}  // namespace

namespace {

/// One image of a disk.
struct Layer {
  const Element* source;
  std::string index, format;
  bool readonly;
};

/// From the one that is written to down to the base.
std::vector<Layer> layers_of(const Element& disk) {
  const Element* source = disk.child("source");
  if (!source) return {};
  std::vector<Layer> layers = {{source, source->attribute("index"), at(disk, "driver", "type"), disk.child("readonly") != nullptr}};
  for (const Element* below = disk.child("backingStore"); below && below->child("source"); below = below->child("backingStore"))
    layers.push_back({below->child("source"), below->attribute("index"), at(*below, "format", "type"), true});
  return layers;
}

Result<Json> bytes_node(const Element& disk, const Layer& layer) {
  std::string type = disk.attribute("type");
  if (layer.source->has_attribute("file")) type = "file";
  else if (layer.source->has_attribute("dev")) type = "block";
  Json node = TRY(source_node(*layer.source, type));
  node["node-name"] = storage_node(layer.index);
  node["auto-read-only"] = true;
  put_mode(disk, node);
  if (const std::string io = at(disk, "driver", "io"); !io.empty() && type != "network") node["aio"] = io;
  return node;
}

Json image_node(const Element& disk, const Layer& layer) {
  Json node = {{"node-name", format_node(layer.index)}, {"driver", layer.format.empty() ? "raw" : layer.format},
               {"read-only", layer.readonly}, {"file", storage_node(layer.index)}};
  put_mode(disk, node);
  const std::string secret = layer.source == disk.child("source") ? disk_secret_id(disk) : "";
  if (secret.empty()) return node;
  if (layer.format == "qcow2") node["encrypt"] = {{"format", "luks"}, {"key-secret", secret}};
  else node.update({{"driver", "luks"}, {"key-secret", secret}});
  return node;
}

}  // namespace

Result<std::vector<Json>> disk_nodes(const Element& disk) {
  std::vector<Json> nodes;
  const std::vector<Layer> layers = layers_of(disk);
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    nodes.push_back(TRY(bytes_node(disk, *layer)));
    Json image = image_node(disk, *layer);
    if (layer != layers.rbegin()) image["backing"] = format_node(std::prev(layer)->index);
    if (layer->source != layers.front().source) {
      nodes.push_back(std::move(image));
      continue;
    }
    if (const std::string zeroes = at(disk, "driver", "detect_zeroes"); !zeroes.empty()) image["detect-zeroes"] = zeroes;
    nodes.push_back(std::move(image));
  }
  return nodes;
}

namespace {

/// The name of the front end on each bus, and where it is plugged.
Result<OptionList> bus_device(const Element& domain, const Element& disk) {
  const std::string bus = at(disk, "target", "bus");
  const bool cdrom = disk.attribute("device") == "cdrom";
  auto place = [&](std::string_view key) { return at(disk, "address", key); };
  if (bus == "virtio") {
    if (cdrom) return config_unsupported("disk type 'virtio' of 'cdrom' is not supported");
    OptionList device("driver", virtio_name(domain, "virtio-blk"));
    set_bus_address(device, domain, disk);
    return device;
  }
  if (bus == "ide" || bus == "sata") {
    OptionList device("driver", cdrom ? "ide-cd" : "ide-hd");
    if (bus == "ide") return device.set("bus", fmt::format("ide.{}", place("bus"))).set("unit", place("unit"));
    const bool built_in = place("controller") == "0" && at(domain, "os/type", "machine").starts_with("pc-q35");
    return device.set("bus", fmt::format("{}.{}", built_in ? "ide" : "sata" + place("controller"), place("unit")));
  }
  if (bus == "scsi") {
    OptionList device("driver", cdrom ? "scsi-cd" : "scsi-hd");
    return device.set("bus", fmt::format("scsi{}.0", place("controller"))).set("channel", place("bus"))
        .set("scsi-id", place("target")).set("lun", place("unit"));
  }
  if (bus == "usb") return OptionList("driver", "usb-storage").set("bus", "usb.0").set("port", place("port"));
  return OptionList("driver", "floppy").set("unit", place("unit"));
}

}  // namespace

Result<OptionList> disk_device(const Element& domain, const Element& disk, u64 boot_index) {
  OptionList device = TRY(bus_device(domain, disk));
  device.set_if("drive", disk_node(disk)).set("id", alias_of(disk));
  if (boot_index) device.set("bootindex", boot_index);
  device.set_if("serial", text_at(disk, "serial"));
  if (disk.child("shareable")) device.set("share-rw", "on");
  if (const CacheMode* mode = cache_mode(disk)) device.set("write-cache", mode->writeback ? "on" : "off");
  if (const std::string iothread = at(disk, "driver", "iothread"); !iothread.empty()) device.set("iothread", "iothread" + iothread);
  device.set_if("num-queues", at(disk, "driver", "queues"));
  device.set_if("werror", at(disk, "driver", "error_policy"));
  const std::string read_policy = at(disk, "driver", "rerror_policy");
  const std::string policy = read_policy.empty() ? at(disk, "driver", "error_policy") : read_policy;
  device.set_if("rerror", policy == "enospace" ? "report" : policy);
  device.set_if("logical_block_size", at(disk, "blockio", "logical_block_size"));
  device.set_if("physical_block_size", at(disk, "blockio", "physical_block_size"));
  return device;
}

}  // namespace atl::manage
