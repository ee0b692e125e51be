#include "manage/domain/addresses.h"

#include <fmt/format.h>

#include "manage/domain/slot_map.h"

namespace atl::manage {
namespace {

/// Parts of the chipset have the place that the board gives them.
std::optional<PciAddress> fixed_place(const Element& device, Board board) {
  const bool controller = device.name() == "controller" && device.attribute("index") == "0";
  const std::string type = device.attribute("type");
  if (board == Board::I440fx && controller && type == "ide") return PciAddress{.slot = 1, .function = 1};
  if (board == Board::I440fx && controller && type == "usb" && device.attribute("model") == "piix3-uhci")
    return PciAddress{.slot = 1, .function = 2};
  if (board == Board::Q35 && controller && type == "sata") return PciAddress{.slot = 0x1f, .function = 2};
  if (device.name() == "video" && at(device, "model", "primary") == "yes") return PciAddress{.slot = board == Board::Q35 ? 1u : 2u};
  return std::nullopt;
}

Status take_given(const Element& domain, Board board, SlotMap& map) {
  for (const Element* device : devices_of(domain).children()) {
    if (!needs_slot(*device, board)) continue;
    const auto address = TRY(pci_address(*device));
    if (address) TRY(map.take(*address, *device));
  }
  return {};
}

void reserve_board(Board board, SlotMap& map) {
  map.reserve(0);
  // libvirt keeps the place of the first video card free, so that one can be added later without moving the rest.
  map.reserve(board == Board::Q35 ? 0x1f : 1);
  map.reserve(board == Board::Q35 ? 1 : 2);
}

/// libvirt's order of assignment.
constexpr std::string_view kOrder[] = {"interface", "controller", "disk", "memballoon", "rng", "watchdog", "video", "input", "vsock"};

Status place_on_board(Element& domain, Board board, SlotMap& map) {
  for (Element& device : devices_of(domain).content()) {
    if (device.is_text() || !needs_slot(device, board) || device.child("address")) continue;
    const auto place = fixed_place(device, board);
    if (!place) continue;
    TRY(map.take(*place, device));
    set_address(device, *place);
  }
  return {};
}

/// An EHCI controller and its companions for slower devices are functions of one slot, as in the ICH9.
struct UsbFunction {
  std::string_view model;
  u32 function;
};
constexpr UsbFunction kUsbFunctions[] = {{"ich9-uhci1", 0}, {"ich9-uhci2", 1}, {"ich9-uhci3", 2}, {"ich9-ehci1", 7}};

u32 usb_function(const Element& device) {
  for (const auto& usb : kUsbFunctions)
    if (device.name() == "controller" && device.attribute("model") == usb.model) return usb.function;
  return 0;
}

bool is_companion(const Element& device) { return device.name() == "controller" && device.child("master"); }

Status place_companions(Element& domain, SlotMap& map) {
  for (Element* device : each(devices_of(domain), "controller")) {
    if (!is_companion(*device) || TRY(pci_address(*device)).has_value()) continue;
    for (const Element* main : devices_of(domain).children("controller")) {
      if (is_companion(*main) || main->attribute("type") != "usb" || main->attribute("index") != device->attribute("index")) continue;
      const auto slot = TRY(pci_address(*main));
      if (!slot) continue;
      PciAddress place = *slot;
      place.function = usb_function(*device);
      if (place.function) TRY(map.take(place, *device));  // function 0 marks the slot itself
      device->remove("address");
      set_address(*device, place, place.function == 0);
    }
  }
  return {};
}

Result<SlotMap> slots_in_use(const Element& domain, Board board) {
  SlotMap map;
  TRY(take_given(domain, board, map));
  return map;
}

}  // namespace

Result<std::optional<PciAddress>> pci_address(const Element& device) {
  const Element* element = device.child("address");
  if (!element || element->attribute("type") != "pci" || !element->has_attribute("slot")) return std::optional<PciAddress>();
  PciAddress address;
  address.domain = static_cast<u32>(TRY(xml::number(*element, "domain", 0, 0xffff)));
  address.bus = static_cast<u32>(TRY(xml::number(*element, "bus", 0, 0xff)));
  address.slot = static_cast<u32>(TRY(xml::number(*element, "slot", 0, kSlots - 1)));
  address.function = static_cast<u32>(TRY(xml::number(*element, "function", 0, 7)));
  return std::optional(address);
}

Status assign_addresses(Element& domain) {
  const Board board = board_of(domain);
  if (board == Board::Microvm) {
    for (Element& device : devices_of(domain).content())
      if (!device.is_text() && needs_slot(device, board) && !device.child("address")) device.add("address").set("type", "virtio-mmio");
    return {};
  }
  SlotMap map = TRY(slots_in_use(domain, board));
  TRY(place_on_board(domain, board, map));
  reserve_board(board, map);
  if (board == Board::Q35) {
    TRY(assign_express(domain, map));
    return place_companions(domain, map);
  }
  for (std::string_view name : kOrder)
    for (Element* device : each(devices_of(domain), name)) {
      // An element without a place ("<address type='pci'/>") asks for any.
      if (!needs_slot(*device, board) || is_companion(*device) || TRY(pci_address(*device)).has_value()) continue;
      device->remove("address");
      PciAddress place = TRY(map.take_free_slot(3));
      place.function = usb_function(*device);
      set_address(*device, place);
    }
  return place_companions(domain, map);
}

Status assign_address(const Element& domain, Element& device) {
  const Board board = board_of(domain);
  if (!needs_slot(device, board) || device.child("address")) return {};
  if (board == Board::Microvm) return config_unsupported("this machine has no bus for devices added later");
  SlotMap map = TRY(slots_in_use(domain, board));
  reserve_board(board, map);
  set_address(device, board == Board::Q35 ? TRY(free_express_place(domain, device, map)) : TRY(map.take_free_slot(3)));
  return {};
}

}  // namespace atl::manage
