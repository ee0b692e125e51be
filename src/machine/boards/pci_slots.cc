#include "machine/boards/pci_slots.h"

#include <algorithm>

#include <fmt/core.h>

#include "devices/pci/option_rom.h"
#include "devices/virtio/pci_transport.h"
#include "machine/device_table.h"

namespace atl::machine {

using namespace devices;

namespace {

bool is_bridge(const PciFunction& function) { return (function.byte(pci::kHeaderType) & ~pci::kMultiFunction) == pci::kHeaderBridge; }

}  // namespace

PciSlots::PciSlots(const BoardContext& context, PciChipset& chips, BootOrder& boot_order, std::function<void()> raise_event)
    : context_(context),
      chips_(chips),
      boot_order_(boot_order),
      registers_({.changed = std::move(raise_event), .eject = [this](unsigned slot) { on_eject(slot); }}) {}

PciSlots::~PciSlots() {
  for (; !plugged_.empty(); plugged_.pop_back()) plugged_.back().bus->remove(plugged_.back().at);
}

PciBridge* PciSlots::find_bridge(std::string_view id) {
  for (auto& plugged : plugged_) {
    if (plugged.id == id && is_bridge(plugged.device->function())) return static_cast<PciBridge*>(plugged.device.get());
  }
  return nullptr;
}

bool PciSlots::has_hotplug_slot(const PciBridge* parent) const {
  return parent ? parent->has_hotplug_slot() : chips_.traits().root_hotplug;
}

/// The root bus unless the request names the bus of a bridge, which is called as the bridge.
Result<PciSlots::Plugged> PciSlots::choose_place(const PlugRequest& request) {
  Plugged out{.id = request.id, .device = nullptr, .bus = &chips_.bus(), .path = "/pci@i0cf8"};
  u8 first = chips_.traits().first_free_slot;
  if (!request.bus.empty() && request.bus != chips_.traits().root_bus) {
    out.parent = find_bridge(request.bus);
    if (!out.parent) return Error(ErrorKind::NotFound, fmt::format("Bus '{}' not found", request.bus));
    out.bus = out.parent->secondary();
    out.path = TRY(firmware_path(*out.parent, "pci-bridge"));
    first = out.parent->is_express() ? 0 : 1;
  }
  if (request.hotplugged && !has_hotplug_slot(out.parent)) {
    return Error(ErrorKind::Unsupported, fmt::format("Bus '{}' does not support hotplugging", request.bus.empty() ? chips_.traits().root_bus : request.bus));
  }
  out.at = TRY(choose_address(*out.bus, first, request));
  if (out.parent && out.parent->is_express() && out.at.slot != 0) {
    return Error(ErrorKind::Invalid, fmt::format("PCI: slot {} is not valid for {}, parent device only allows plugging into slot 0.", out.at.slot, request.type));
  }
  return out;
}

Result<PciAddress> PciSlots::choose_address(const PciBus& bus, u8 first, const PlugRequest& request) {
  PciAddress at;
  if (request.address.empty()) {
    const auto slot = bus.free_slot(first);
    if (!slot) return Error(ErrorKind::NoSpace, fmt::format("PCI: no slot/function available for {}, all in use", request.type));
    at.slot = *slot;
    return at;
  }
  const auto place = parse_pci_place(request.address);
  if (!place) {
    return Error(ErrorKind::Invalid, fmt::format("Property '{}.addr' doesn't take value '{}'", request.type, request.address));
  }
  at = {place->first, place->second};
  if (const PciFunction* holder = bus.find(at)) {
    return Error(ErrorKind::Busy, fmt::format("PCI: slot {} function {} not available for {}, in use by {}", at.slot,
                                              at.function, request.type, holder->name()));
  }
  return at;
}

Result<Device*> PciSlots::plug(std::unique_ptr<VirtioDevice> device, const PlugRequest& request) {
  const Plugged place = TRY(choose_place(request));
  // Slots of PCI Express are for devices without I/O ports.
  const bool conventional = !place.parent || !place.parent->is_express();
  const bool legacy = request.legacy.value_or(!request.modern || (conventional && transitional_pci_id(device->device_id())));
  auto transport = TRY(VirtioPci::create(context_.vm, std::move(device), {.type = request.type, .legacy = legacy, .modern = request.modern, .vectors = request.vectors}));
  return plug_pci(std::move(transport), request);
}

Result<Device*> PciSlots::plug_pci(std::unique_ptr<PciDevice> device, const PlugRequest& request) {
  Plugged place = TRY(choose_place(request));
  if (is_bridge(device->function())) static_cast<PciBridge&>(*device).attach_to(*place.bus);
  if (!request.rom.empty()) TRY(add_option_rom(device->function(), request.rom));
  TRY(place.bus->add(place.at, device->function()));
  if (!request.hotplugged) TRY(add_to_boot_order(boot_order_, request.boot_index, firmware_node(place, request.firmware_name) + request.firmware_tail));
  place.removable = request.removable;
  place.device = std::move(device);
  plugged_.push_back(std::move(place));
  announce(plugged_.back(), request.hotplugged);
  if (plugged_.back().device->type() == "pcie-root-port") {
    static_cast<PciBridge&>(*plugged_.back().device).on_power_off([this, port = plugged_.back().device.get()] { on_slot_off(*port); });
  }
  return static_cast<Device*>(plugged_.back().device.get());
}

/// As Open Firmware names devices, and SeaBIOS and OVMF look for them.
std::string PciSlots::firmware_node(const Plugged& plugged, std::string_view name) {
  const PciAddress at = plugged.at;
  const std::string place = at.function ? fmt::format("{:x},{:x}", at.slot, at.function) : fmt::format("{:x}", at.slot);
  return fmt::format("{}/{}@{}", plugged.path, name, place);
}

/// Tells the guest of a device, by the slot's registers or by ACPI.
void PciSlots::announce(const Plugged& plugged, bool hotplugged) {
  if (plugged.parent) return plugged.parent->set_occupied(true, hotplugged);
  if (!chips_.traits().root_hotplug) return;
  if (plugged.at.function == 0 && plugged.removable) registers_.set_removable(plugged.at.slot, true);
  if (hotplugged) registers_.announce_plugged(plugged.at.slot);
}

/// The guest switched a root port's slot off. vCPU thread.
void PciSlots::on_slot_off(const PciDevice& port) {
  for (const Plugged& p : plugged_) {
    if (p.parent == &port && p.removable) context_.ejected(*p.device);
  }
}

const PciSlots::Plugged* PciSlots::find(const Device& device) const {
  auto found = std::ranges::find_if(plugged_, [&](const Plugged& p) { return p.device.get() == &device; });
  return found == plugged_.end() ? nullptr : &*found;
}

Status PciSlots::request_unplug(Device& device) {
  const Plugged* plugged = find(device);
  const bool leaves = plugged && plugged->removable && has_hotplug_slot(plugged->parent);
  if (!leaves) return Error(ErrorKind::Unsupported, fmt::format("Device '{}' does not support hotplugging", device.type()));
  if (plugged->parent) plugged->parent->press_attention_button();
  else registers_.request_unplug(plugged->at.slot);
  return {};
}

/// All functions of a slot leave together. vCPU thread: the control thread changes `plugged_` only with vCPUs stopped.
void PciSlots::on_eject(unsigned slot) {
  for (const Plugged& p : plugged_) {
    if (!p.parent && p.at.slot == slot && p.removable) context_.ejected(*p.device);
  }
}

std::unique_ptr<Device> PciSlots::unplug(Device& device) {
  auto plugged = std::ranges::find_if(plugged_, [&](const Plugged& p) { return p.device.get() == &device; });
  if (plugged == plugged_.end()) return nullptr;
  plugged->bus->remove(plugged->at);
  std::unique_ptr<Device> out = std::move(plugged->device);
  const u8 slot = plugged->at.slot;
  PciBridge* parent = plugged->parent;
  plugged_.erase(plugged);
  if (std::ranges::any_of(plugged_, [&](const Plugged& p) { return p.parent == parent && p.at.slot == slot; })) return out;
  if (parent) parent->set_occupied(false, true);
  else registers_.set_removable(slot, false);
  return out;
}

std::string PciSlots::place_of(const Device& device) const {
  const Plugged* plugged = find(device);
  if (!plugged) return "on board";
  return fmt::format("addr = {:02x}.{}", plugged->at.slot, plugged->at.function);
}

std::vector<Device*> PciSlots::devices() const {
  std::vector<Device*> all;
  for (const Plugged& p : plugged_) all.push_back(p.device.get());
  return all;
}

std::vector<PciFunctionInfo> PciSlots::functions() const {
  auto list = chips_.bus().functions();
  name_functions(list);
  return list;
}

void PciSlots::name_functions(std::vector<PciFunctionInfo>& functions) const {
  for (PciFunctionInfo& info : functions) {
    for (const Plugged& p : plugged_)
      if (&p.device->function() == info.function) info.id = p.id;
    if (info.bridge) name_functions(info.bridge->behind);
  }
}

std::string PciSlots::id_of(const Device& device) const {
  const Plugged* plugged = find(device);
  return plugged ? plugged->id : "";
}

Result<std::string> PciSlots::firmware_path(const Device& device, std::string_view name) const {
  const Plugged* plugged = find(device);
  if (!plugged) return Error(ErrorKind::NotFound, fmt::format("{}: not on the PCI bus", device.type()));
  return firmware_node(*plugged, name);
}

}  // namespace atl::machine
