#include "manage/nodedev/node_devices.h"

#include <dirent.h>
#include <fmt/format.h>
#include <limits.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "base/fd.h"
#include "base/strings.h"
#include "manage/network/links.h"
#include "manage/uuid.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

constexpr const char* kComputer = "computer";

struct Kind {
  DeviceKind kind;
  std::string_view capability;
  const char* folder;  // below /sys
  const char* prefix;  // of names
};

constexpr Kind kKinds[] = {
    {DeviceKind::System, "system", "", ""},
    {DeviceKind::Pci, "pci", "bus/pci/devices", "pci_"},
    {DeviceKind::Usb, "usb_device", "bus/usb/devices", "usb_"},
    {DeviceKind::UsbInterface, "usb", "bus/usb/devices", "usb_"},
    {DeviceKind::Net, "net", "class/net", "net_"},
    {DeviceKind::Storage, "storage", "class/block", "block_"},
};

std::vector<std::string> entries(const std::string& path) {
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  std::vector<std::string> found;
  while (const dirent* entry = folder ? ::readdir(folder.get()) : nullptr)
    if (entry->d_name[0] != '.') found.emplace_back(entry->d_name);
  std::ranges::sort(found);
  return found;
}

std::string real_path(const std::string& path) {
  std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), ::free);
  return real ? real.get() : "";
}

std::string base_name(std::string_view path) { return std::string(path.substr(path.rfind('/') + 1)); }

/// libvirt's names hold letters and digits only.
std::string device_name(const char* prefix, std::string_view text) {
  std::string name = prefix;
  for (char c : text) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

void add_text(Element& parent, std::string_view name, const std::string& text) {
  if (!text.empty()) parent.add(name, text);
}

void add_id(Element& parent, std::string_view name, const std::string& id, const std::string& text = {}) {
  if (id.empty()) return;
  Element& element = parent.add(name).set("id", id.starts_with("0x") ? id : "0x" + id);
  element.add_text(text);
}

struct PciAddress {
  unsigned domain = 0, bus = 0, slot = 0, function = 0;
};

std::optional<PciAddress> parse_pci_address(const std::string& text) {
  PciAddress address;
  if (std::sscanf(text.c_str(), "%x:%x:%x.%x", &address.domain, &address.bus, &address.slot, &address.function) != 4)
    return std::nullopt;
  return address;
}

void add_pci_address(Element& parent, const PciAddress& address) {
  parent.add("address")
      .set("domain", fmt::format("0x{:04x}", address.domain))
      .set("bus", fmt::format("0x{:02x}", address.bus))
      .set("slot", fmt::format("0x{:02x}", address.slot))
      .set("function", fmt::format("0x{:x}", address.function));
}

}  // namespace

std::string_view device_capability(DeviceKind kind) { return std::ranges::find(kKinds, kind, &Kind::kind)->capability; }

std::string NodeDevices::read(const std::string& path) const {
  auto text = read_file(path, 64 << 10);
  return text ? std::string(trim(*text)) : std::string();
}

std::vector<NodeDevice> NodeDevices::scan() const {
  std::vector<NodeDevice> devices = {{kComputer, DeviceKind::System, "", ""}};
  for (const Kind& kind : kKinds) {
    if (kind.kind == DeviceKind::System) continue;
    for (const std::string& entry : entries(fmt::format("{}/{}", sys_, kind.folder))) {
      std::string path = real_path(fmt::format("{}/{}/{}", sys_, kind.folder, entry));
      bool is_interface = entry.find(':') != std::string::npos;
      if (path.empty() || (kind.kind == DeviceKind::Usb && is_interface)) continue;
      if (kind.kind == DeviceKind::UsbInterface && !is_interface) continue;
      // Partitions, and disks that are only names (loop, RAM), are no devices of the host.
      bool is_disk = ::access((path + "/partition").c_str(), F_OK) != 0 && path.find("/virtual/") == std::string::npos;
      if (kind.kind == DeviceKind::Storage && !is_disk) continue;
      std::string name = device_name(kind.prefix, entry);
      if (kind.kind == DeviceKind::Net) name += device_name("_", read(path + "/address"));
      devices.push_back({std::move(name), kind.kind, std::move(path), kComputer});
    }
  }
  return devices;
}

std::vector<NodeDevice> NodeDevices::list() const {
  std::vector<NodeDevice> devices = scan();
  for (NodeDevice& device : devices) {
    size_t longest = 0;  // the nearest device above is the one with the longest path
    for (const NodeDevice& other : devices) {
      if (other.path.size() <= longest || !device.path.starts_with(other.path + "/")) continue;
      longest = other.path.size();
      device.parent = other.name;
    }
  }
  return devices;
}

Result<NodeDevice> NodeDevices::find(const std::string& name) const {
  for (NodeDevice& device : list())
    if (device.name == name) return std::move(device);
  return no_node_device(name);
}

void NodeDevices::add_system(Element& capability) const {
  std::string dmi = sys_ + "/class/dmi/id/";
  add_text(capability, "product", read(dmi + "product_name"));
  Element& hardware = capability.add("hardware");
  add_text(hardware, "vendor", read(dmi + "sys_vendor"));
  add_text(hardware, "version", read(dmi + "product_version"));
  add_text(hardware, "serial", read(dmi + "product_serial"));
  auto uuid = parse_uuid(read(dmi + "product_uuid"));
  hardware.add("uuid", format_uuid(uuid.value_or(Uuid{})));
  Element& firmware = capability.add("firmware");
  add_text(firmware, "vendor", read(dmi + "bios_vendor"));
  add_text(firmware, "version", read(dmi + "bios_version"));
  add_text(firmware, "release_date", read(dmi + "bios_date"));
  xml::print_as_pair(firmware, 2);
}

void NodeDevices::add_pci(Element& capability, const NodeDevice& device) const {
  add_text(capability, "class", read(device.path + "/class"));
  auto address = parse_pci_address(base_name(device.path)).value_or(PciAddress{});
  capability.add("domain", u64{address.domain});
  capability.add("bus", u64{address.bus});
  capability.add("slot", u64{address.slot});
  capability.add("function", u64{address.function});
  add_id(capability, "product", read(device.path + "/device"));
  add_id(capability, "vendor", read(device.path + "/vendor"));
  std::string group = real_path(device.path + "/iommu_group");
  if (!group.empty()) {
    Element& iommu = capability.add("iommuGroup").set("number", base_name(group));
    for (const std::string& member : entries(group + "/devices"))
      if (auto other = parse_pci_address(member)) add_pci_address(iommu, *other);
  }
  auto node = parse_u64(read(device.path + "/numa_node"));  // -1: none
  if (node) capability.add("numa").set("node", *node);
}

void NodeDevices::add_usb(Element& capability, const NodeDevice& device) const {
  add_text(capability, "bus", read(device.path + "/busnum"));
  add_text(capability, "device", read(device.path + "/devnum"));
  add_id(capability, "product", read(device.path + "/idProduct"), read(device.path + "/product"));
  add_id(capability, "vendor", read(device.path + "/idVendor"), read(device.path + "/manufacturer"));
}

void NodeDevices::add_usb_interface(Element& capability, const NodeDevice& device) const {
  const std::pair<const char*, const char*> fields[] = {{"number", "bInterfaceNumber"},
                                                        {"class", "bInterfaceClass"},
                                                        {"subclass", "bInterfaceSubClass"},
                                                        {"protocol", "bInterfaceProtocol"}};
  for (auto [name, file] : fields) capability.add(name, parse_hex(read(device.path + "/" + file)).value_or(0));
}

void NodeDevices::add_net(Element& capability, const NodeDevice& device) const {
  capability.add("interface", base_name(device.path));
  add_text(capability, "address", read(device.path + "/address"));
  const std::string state = read(device.path + "/operstate");
  const bool is_up = state == "up";
  Element& link = capability.add("link");
  auto speed = parse_u64(read(device.path + "/speed"));
  if (is_up && speed && *speed < 10'000'000) link.set("speed", *speed);
  link.set("state", state.empty() ? "unknown" : state);
  for (std::string_view feature : link_features(base_name(device.path))) capability.add("feature").set("name", feature);
  // ARPHRD_ETHER, and what looks like it
  const std::string type = read(device.path + "/type");
  if (type == "1" || type == "772") capability.add("capability").set("type", "80203");
}

void NodeDevices::add_storage(Element& capability, const NodeDevice& device) const {
  capability.add("block", "/dev/" + base_name(device.path));
  capability.add("drive_type", read(device.path + "/removable") == "1" ? "cdrom" : "disk");
  add_text(capability, "model", read(device.path + "/device/model"));
  add_text(capability, "vendor", read(device.path + "/device/vendor"));
  add_text(capability, "serial", read(device.path + "/serial"));
  u64 sectors = parse_u64(read(device.path + "/size")).value_or(0);
  u64 block = parse_u64(read(device.path + "/queue/logical_block_size")).value_or(512);
  capability.add("size", sectors * 512);
  capability.add("logical_block_size", block);
  capability.add("num_blocks", sectors * 512 / std::max<u64>(block, 1));
}

std::string NodeDevices::xml(const NodeDevice& device) const {
  Element tree("device");
  tree.add("name", device.name);
  add_text(tree, "path", device.path);
  add_text(tree, "parent", device.parent);
  std::string driver = device.path.empty() ? "" : real_path(device.path + "/driver");
  if (!driver.empty()) tree.add("driver").add("name", base_name(driver));
  Element& capability = tree.add("capability").set("type", device_capability(device.kind));
  switch (device.kind) {
    case DeviceKind::System: add_system(capability); break;
    case DeviceKind::Pci: add_pci(capability, device); break;
    case DeviceKind::Usb: add_usb(capability, device); break;
    case DeviceKind::UsbInterface: add_usb_interface(capability, device); break;
    case DeviceKind::Net: add_net(capability, device); break;
    case DeviceKind::Storage: add_storage(capability, device); break;
  }
  return xml::write(tree);
}

}  // namespace atl::manage
