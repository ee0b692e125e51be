// Devices that a definition implies without naming them, as libvirt adds them.
#include <algorithm>
#include <map>

#include "manage/domain/definition.h"

namespace atl::manage {
namespace {

bool is_machine(const Element& domain, std::string_view prefix) { return at(domain, "os/type", "machine").starts_with(prefix); }

Element* find_controller(Element& devices, std::string_view type, std::string_view index = {}) {
  for (Element* controller : each(devices, "controller"))
    if (controller->attribute("type") == type && (index.empty() || controller->attribute("index") == index)) return controller;
  return nullptr;
}

Element& ensure_controller(Element& devices, std::string_view type, u64 index, std::string_view model = {}) {
  const std::string number = std::to_string(index);
  if (Element* found = find_controller(devices, type, number)) return *found;
  Element& controller = devices.add("controller");
  controller.set("type", type).set("index", number);
  if (!model.empty()) controller.set("model", model);
  return controller;
}

/// The last letters of "sdb" as a number: 1.
u64 index_of_name(std::string_view target) {
  const size_t from = target.size() > 2 ? 2 : 0;
  u64 index = 0;
  for (char c : target.substr(from)) {
    if (c < 'a' || c > 'z') break;
    index = index * 26 + static_cast<u64>(c - 'a') + 1;
  }
  return index ? index - 1 : 0;
}

struct DriveBus {
  std::string_view bus;
  u64 units, buses;  // units a bus, buses a controller
};
constexpr DriveBus kDriveBuses[] = {{"ide", 2, 2}, {"sata", 6, 1}, {"scsi", 7, 1}, {"fdc", 2, 1}};

}  // namespace

// libvirt derives the place of such a disk from its name: sdh is unit 0 of controller 1, say.
void place_drive(Element& disk) {
  const std::string bus = at(disk, "target", "bus");
  for (const auto& kind : kDriveBuses) {
    if (kind.bus != bus || disk.child("address")) continue;
    const u64 index = index_of_name(at(disk, "target", "dev"));
    const u64 each_controller = kind.units * kind.buses;
    disk.add("address").set("type", "drive").set("controller", index / each_controller)
        .set("bus", index % each_controller / kind.units).set("target", "0").set("unit", index % kind.units);
  }
}

namespace {

void add_disk_controllers(Element& devices) {
  for (Element* disk : each(devices, "disk")) {
    place_drive(*disk);
    if (at(*disk, "address", "type") != "drive") continue;
    const std::string bus = at(*disk, "target", "bus");
    ensure_controller(devices, bus, number_at(*disk, "address", "controller").value_or(0), bus == "scsi" ? "virtio-scsi" : "");
  }
}

/// Serial port 0 and console 0 are two names of one thing (docs: "Console").
void pair_console(Element& devices) {
  const auto serials = each(devices, "serial");
  const auto consoles = each(devices, "console");
  if (!serials.empty() && (consoles.empty() || at(*consoles[0], "target", "type") != "serial")) {
    Element console("console");
    console.set("type", serials[0]->attribute("type"));
    if (const Element* source = serials[0]->child("source")) console.add(*source);
    if (const Element* protocol = serials[0]->child("protocol")) console.add(*protocol);
    if (const Element* log = serials[0]->child("log")) console.add(*log);
    console.add("target").set("type", "serial");
    devices.add(std::move(console));
  } else if (serials.empty() && !consoles.empty() && at(*consoles[0], "target", "type") == "serial") {
    Element serial("serial");
    serial.set("type", consoles[0]->attribute("type"));
    if (const Element* source = consoles[0]->child("source")) serial.add(*source);
    if (const Element* protocol = consoles[0]->child("protocol")) serial.add(*protocol);
    if (const Element* log = consoles[0]->child("log")) serial.add(*log);
    serial.add("target").set("type", "isa-serial").add("model").set("name", "isa-serial");
    devices.add(std::move(serial));
  }
}

void number_ports(Element& devices) {
  for (std::string_view name : {"serial", "console"}) {
    u64 next = 0;
    for (Element* port : each(devices, name)) {
      Element& target = ensure(*port, "target");
      if (!target.has_attribute("port")) target.set("port", next);
      next = std::max(next, parse_u64(target.attribute("port")).value_or(0)) + 1;
    }
  }
}

bool needs_virtio_serial(Element& devices) {
  for (std::string_view name : {"channel", "console"})
    for (Element* port : each(devices, name))
      if (at(*port, "target", "type") == "virtio") return true;
  return false;
}

/// Port numbers on the virtio-serial bus; 0 is kept for a console.
void place_virtio_ports(Element& devices) {
  std::map<std::string, u64> next;
  for (std::string_view name : {"channel", "console"})
    for (Element* port : each(devices, name)) {
      if (at(*port, "target", "type") != "virtio") continue;
      if (!port->child("address")) port->add("address").set("type", "virtio-serial");
      Element& address = *port->child("address");
      set_default(address, "controller", "0");
      set_default(address, "bus", "0");
      u64& free_port = next.try_emplace(address.attribute("controller"), 1).first->second;
      if (auto taken = parse_u64(address.attribute("port"))) free_port = std::max(free_port, *taken + 1);
      else address.set("port", free_port++);
      ensure_controller(devices, "virtio-serial", parse_u64(address.attribute("controller")).value_or(0));
    }
}

void place_usb_devices(Element& devices) {
  u64 next = 1;
  auto place = [&](Element& device) {
    if (!device.child("address")) device.add("address").set("type", "usb").set("bus", "0").set("port", next);
    next = std::max(next, number_at(device, "address", "port").value_or(0)) + 1;
  };
  for (Element* hub : each(devices, "hub")) place(*hub);
  for (Element* input : each(devices, "input"))
    if (input->attribute("bus") == "usb") place(*input);
  for (Element* disk : each(devices, "disk"))
    if (at(*disk, "target", "bus") == "usb") place(*disk);
}

void add_input(Element& devices, std::string_view type) {
  for (Element* input : each(devices, "input"))
    if (input->attribute("type") == type && input->attribute("bus") == "ps2") return;
  devices.add("input").set("type", type).set("bus", "ps2");
}

void add_screen_parts(Element& devices) {
  if (each(devices, "graphics").empty()) return;
  if (each(devices, "video").empty())
    devices.add("video").add("model").set("type", "vga").set("vram", "16384").set("heads", "1").set("primary", "yes");
  // A VNC screen carries no sound: that is said, so that nobody has to guess.
  if (each(devices, "audio").empty()) devices.add("audio").set("id", "1").set("type", "none");
}

}  // namespace

void add_implied_devices(Element& domain, const DefinitionHost& host) {
  Element& devices = devices_of(domain);
  Element& emulator = ensure(devices, "emulator");
  if (trim(emulator.text()).empty()) emulator.set_text(host.emulator);
  const bool microvm = is_machine(domain, "microvm");
  if (!microvm) {
    if (!find_controller(devices, "usb"))
      ensure_controller(devices, "usb", 0, is_machine(domain, "pc-q35") ? "qemu-xhci" : "piix3-uhci");
    if (is_machine(domain, "pc-q35")) ensure_controller(devices, "sata", 0);
    ensure_controller(devices, "pci", 0, is_machine(domain, "pc-q35") ? "pcie-root" : "pci-root");
  }
  add_disk_controllers(devices);
  pair_console(devices);
  number_ports(devices);
  if (needs_virtio_serial(devices)) place_virtio_ports(devices);
  add_screen_parts(devices);
  if (!microvm && !each(devices, "graphics").empty()) {
    add_input(devices, "mouse");
    add_input(devices, "keyboard");
  }
  if (each(devices, "memballoon").empty()) devices.add("memballoon").set("model", "virtio");
  place_usb_devices(devices);
}

}  // namespace atl::manage
