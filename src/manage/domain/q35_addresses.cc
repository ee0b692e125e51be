// Places on a Q35 board as libvirt gives them: the root bus holds the chipset, the screen and root ports; a PCI Express device has
// a root port to itself, so that it can be unplugged; older PCI devices share a pcie-to-pci-bridge.
#include <algorithm>
#include <optional>
#include <vector>

#include "manage/domain/slot_map.h"

namespace atl::manage {
namespace {

constexpr u32 kFirstPortSlot = 2, kFunctions = 8, kMaxBuses = 64;

/// libvirt's order of assignment.
constexpr std::string_view kOrder[] = {"interface", "controller", "disk", "memballoon", "rng", "watchdog", "video", "input", "vsock"};

bool is_model(const Element& device, std::string_view model) { return device.attribute("model") == model; }
bool is_port(const Element& device) { return device.name() == "controller" && is_model(device, "pcie-root-port"); }
bool is_bridge(const Element& device) {
  return device.name() == "controller" && (is_model(device, "pcie-to-pci-bridge") || is_model(device, "pci-bridge"));
}
bool is_ich9_usb(const Element& device) {
  return device.name() == "controller" && device.attribute("type") == "usb" && device.attribute("model").starts_with("ich9-");
}

/// Whether the device is PCI Express; what is not needs the bridge.
bool is_express(const Element& device) {
  const std::string& name = device.name();
  if (name == "interface") {
    const std::string model = at(device, "model", "type");
    return model.starts_with("virtio") || model == "e1000e";
  }
  if (name == "controller") {
    const std::string type = device.attribute("type"), model = device.attribute("model");
    if (type == "usb") return model.ends_with("-xhci");
    if (type == "scsi") return model.starts_with("virtio");
    if (type == "pci") return model == "pcie-to-pci-bridge";
    return type == "virtio-serial";
  }
  if (name == "video") return at(device, "model", "type") == "virtio";
  return name != "watchdog";
}

bool needs_place(const Element& device) {
  if (!needs_slot(device, Board::Q35) || (device.name() == "controller" && device.child("master"))) return false;
  auto address = pci_address(device);
  return !address || !address->has_value();
}

/// Adds ports and bridges, and finds places behind them.
class Express {
 public:
  Express(Element& domain, SlotMap& map) : domain_(domain), map_(map) {}

  /// Ports that the definition names get the first places.
  Status place_given() {
    TRY(number_controllers());
    for (Element* controller : each(devices_of(domain_), "controller"))
      if (is_port(*controller)) TRY(place_port(*controller));
    return {};
  }

  /// What the devices need beyond that, before any of them has its place: then bridges go first, as with libvirt.
  Status make_room() {
    size_t ports_needed = 0;
    const Element* bridge = nullptr;  // that was added here, and counted
    for (std::string_view name : kOrder)
      for (Element* device : each(devices_of(domain_), name)) {
        if (device == bridge || !needs_place(*device) || is_port(*device) || is_ich9_usb(*device)) continue;
        if (is_express(*device)) {
          if (++ports_needed > free_ports()) TRY(add_port());
        } else if (!has_bridge()) {
          if (++ports_needed > free_ports()) TRY(add_port());
          bridge = &add_controller("pcie-to-pci-bridge", "pcie-pci-bridge");
        }
      }
    if (added_ && free_ports() <= ports_needed) TRY(add_port());  // for a device to come
    for (Element* controller : each(devices_of(domain_), "controller"))
      if (is_bridge(*controller) && needs_place(*controller)) TRY(place(*controller));
    return {};
  }

  Status place(Element& device) {
    device.remove("address");
    if (is_ich9_usb(device)) {
      constexpr u32 kUsbSlot = 0x1d;
      const PciAddress address{.slot = map_.is_free(0, kUsbSlot) ? kUsbSlot : 0x1a, .function = 7};
      TRY(map_.take(address, device));
      set_address(device, address);
      return {};
    }
    const PciAddress address = TRY(free_place(domain_, device, map_));
    TRY(map_.take(address, device));
    set_address(device, address);
    return {};
  }

  static Result<PciAddress> free_place(const Element& domain, const Element& device, const SlotMap& map) {
    const bool express = is_express(device);
    std::vector<u32> buses;
    for (const Element* controller : devices_of(domain).children("controller"))
      if (express ? is_port(*controller) : is_bridge(*controller))
        buses.push_back(static_cast<u32>(parse_u64(controller->attribute("index")).value_or(0)));
    std::ranges::sort(buses);
    for (u32 bus : buses) {
      const u32 first = express ? 0 : 1, end = express ? 1 : kSlots;
      for (u32 slot = first; slot < end; ++slot)
        if (map.is_free(bus, slot)) return PciAddress{.bus = bus, .slot = slot};
    }
    return internal_error("No more available PCI slots");
  }

 private:
  /// Those that came without a number follow the others.
  Status number_controllers() {
    for (const Element* controller : devices_of(domain_).children("controller"))
      if (controller->attribute("type") == "pci")
        next_index_ = std::max(next_index_, parse_u64(controller->attribute("index")).value_or(0) + 1);
    if (next_index_ > kMaxBuses) return config_unsupported(fmt::format("a domain has at most {} PCI buses", kMaxBuses));
    return {};
  }

  size_t free_ports() const {
    size_t count = 0;
    for (const Element* controller : devices_of(domain_).children("controller")) {
      if (!is_port(*controller)) continue;
      if (map_.is_free(static_cast<u32>(parse_u64(controller->attribute("index")).value_or(0)), 0)) ++count;
    }
    return count;
  }

  bool has_bridge() const {
    const auto controllers = devices_of(domain_).children("controller");
    return std::ranges::any_of(controllers, [](const Element* c) { return is_bridge(*c); });
  }

  Element& add_controller(std::string_view model, std::string_view name) {
    Element& controller = devices_of(domain_).add("controller");
    controller.set("type", "pci").set("index", next_index_++).set("model", model);
    controller.add("model").set("name", name);
    return controller;
  }

  Status add_port() {
    if (next_index_ >= kMaxBuses) return config_unsupported(fmt::format("a domain has at most {} PCI buses", kMaxBuses));
    added_ = true;
    return place_port(add_controller("pcie-root-port", "pcie-root-port"));
  }

  /// Eight root ports share a slot; port number and chassis tell them apart.
  Status place_port(Element& port) {
    if (!port.child("model")) port.add("model").set("name", "pcie-root-port");
    std::optional<PciAddress> address = TRY(pci_address(port));
    if (!address) {
      address = free_function();
      if (!address) return config_unsupported("No more available PCI slots");
      TRY(map_.take(*address, port));
      port.remove("address");
      set_address(port, *address, address->function == 0);
    }
    port_slots_[address->slot] = true;
    Element& target = ensure(port, "target");
    set_default(target, "chassis", port.attribute("index"));
    set_default(target, "port", fmt::format("0x{:x}", address->slot << 3 | address->function));
    return {};
  }

  std::optional<PciAddress> free_function() const {
    for (u32 slot = kFirstPortSlot; slot < kSlots; ++slot) {
      if (map_.is_free(0, slot)) return PciAddress{.slot = slot};
      if (!port_slots_[slot]) continue;
      for (u32 function = 0; function < kFunctions; ++function)
        if (const PciAddress address{.slot = slot, .function = function}; map_.is_free(address)) return address;
    }
    return std::nullopt;
  }

  Element& domain_;
  SlotMap& map_;
  u64 next_index_ = 1;
  bool added_ = false;
  bool port_slots_[kSlots] = {};
};

}  // namespace

Status assign_express(Element& domain, SlotMap& map) {
  Express express(domain, map);
  TRY(express.place_given());
  TRY(express.make_room());
  for (std::string_view name : kOrder)
    for (Element* device : each(devices_of(domain), name))
      if (needs_place(*device) && !is_port(*device)) TRY(express.place(*device));
  return {};
}

Result<PciAddress> free_express_place(const Element& domain, const Element& device, SlotMap& map) {
  return Express::free_place(domain, device, map);
}

}  // namespace atl::manage
