#include "manage/domain/aliases.h"

#include <algorithm>

#include <fmt/format.h>

namespace atl::manage {
namespace {

/// Devices with a plain running number.
struct Numbered {
  std::string_view element, prefix;
};
constexpr Numbered kNumbered[] = {
    {"interface", "net"},     {"serial", "serial"},     {"console", "console"},      {"channel", "channel"}, {"input", "input"},
    {"video", "video"},       {"memballoon", "balloon"}, {"rng", "rng"},             {"watchdog", "watchdog"}, {"tpm", "tpm"},
    {"hub", "hub"},           {"panic", "panic"},       {"vsock", "vsock"}};

bool is_taken(const Element& domain, std::string_view alias) {
  const auto devices = devices_of(domain).children();
  return std::any_of(devices.begin(), devices.end(), [&](const Element* device) { return alias_of(*device) == alias; });
}

std::string next_number(const Element& domain, std::string_view prefix) {
  for (u64 number = 0;; ++number)
    if (std::string name = fmt::format("{}{}", prefix, number); !is_taken(domain, name)) return name;
}

std::string disk_alias(const Element& domain, const Element& disk) {
  const std::string bus = at(disk, "target", "bus");
  if (bus == "virtio") return next_number(domain, "virtio-disk");
  if (bus == "usb") return next_number(domain, "usb-disk");
  const std::string controller = at(disk, "address", "controller"), unit = at(disk, "address", "unit");
  if (bus == "scsi") return fmt::format("scsi{}-{}-{}-{}", controller, at(disk, "address", "bus"), at(disk, "address", "target"), unit);
  return fmt::format("{}{}-{}-{}", bus, controller, at(disk, "address", "bus"), unit);
}

std::string controller_alias(const Element& domain, const Element& controller) {
  const std::string type = controller.attribute("type"), index = controller.attribute("index");
  const bool q35 = at(domain, "os/type", "machine").starts_with("pc-q35");
  if (type == "pci") return index == "0" && q35 ? "pcie.0" : "pci." + index;
  // Controllers that the chipset has.
  if (index == "0" && type == "ide" && !q35) return "ide";
  if (index == "0" && type == "sata" && q35) return "ide";
  if (index == "0" && type == "usb") return "usb";
  return fmt::format("{}{}", type, index);
}

/// The console that is another name of serial port 0 shares its alias.
bool is_serial_console(const Element& domain, const Element& device) {
  if (device.name() != "console" || at(device, "target", "type") != "serial") return false;
  return devices_of(domain).child("serial") != nullptr;
}

std::string choose_alias(const Element& domain, const Element& device) {
  if (device.name() == "disk") return disk_alias(domain, device);
  if (device.name() == "controller") return controller_alias(domain, device);
  if (is_serial_console(domain, device)) return alias_of(*devices_of(domain).child("serial"));
  for (const auto& kind : kNumbered)
    if (kind.element == device.name()) return next_number(domain, kind.prefix);
  return {};
}

}  // namespace

void number_sources(Element& domain) {
  u64 next = 1;
  auto disks = each(devices_of(domain), "disk");
  for (auto disk = disks.rbegin(); disk != disks.rend(); ++disk)
    if (Element* source = (*disk)->child("source")) source->set("index", next++);
}

void assign_alias(const Element& domain, Element& device) {
  if (device.child("alias")) return;
  if (const std::string alias = choose_alias(domain, device); !alias.empty()) device.add("alias").set("name", alias);
}

void assign_aliases(Element& domain) {
  for (Element& device : devices_of(domain).content())
    if (!device.is_text()) assign_alias(domain, device);
}

std::string format_node(const std::string& index) { return index.empty() ? std::string() : fmt::format("libvirt-{}-format", index); }
std::string storage_node(const std::string& index) { return fmt::format("libvirt-{}-storage", index); }

std::string disk_node(const Element& disk) { return format_node(at(disk, "source", "index")); }

std::vector<std::string> chain_indexes(const Element& disk) {
  std::vector<std::string> indexes;
  if (const std::string top = at(disk, "source", "index"); !top.empty()) indexes.push_back(top);
  for (const Element* layer = disk.child("backingStore"); layer; layer = layer->child("backingStore"))
    if (const std::string index = layer->attribute("index"); !index.empty()) indexes.push_back(index);
  return indexes;
}

}  // namespace atl::manage
