// Which places on a board's PCI buses are taken, and which devices need one: what addresses.cc and q35_addresses.cc share.
#pragma once

#include <bitset>
#include <map>

#include <fmt/format.h>

#include "manage/domain/addresses.h"

namespace atl::manage {

inline constexpr u32 kSlots = 32;

/// Which slots of which bus are taken, by functions.
class SlotMap {
 public:
  Status take(const PciAddress& address, const Element& device) {
    auto& functions = slots_[{address.bus, address.slot}];
    if (functions.test(address.function))
      return xml_error(fmt::format("Attempted double use of PCI Address {:04x}:{:02x}:{:02x}.{:x} (<{}>)", address.domain, address.bus,
                                   address.slot, address.function, device.name()));
    functions.set(address.function);
    return {};
  }
  bool is_free(u32 bus, u32 slot) const {
    auto found = slots_.find({bus, slot});
    return found == slots_.end() || found->second.none();
  }
  Result<PciAddress> take_free_slot(u32 first, u32 bus = 0) {
    for (u32 slot = first; slot < kSlots; ++slot) {
      if (!is_free(bus, slot)) continue;
      slots_[{bus, slot}].set(0);
      return PciAddress{.bus = bus, .slot = slot};
    }
    return config_unsupported("No more available PCI slots");
  }
  bool is_free(const PciAddress& at) const {
    auto found = slots_.find({at.bus, at.slot});
    return found == slots_.end() || !found->second.test(at.function);
  }
  void reserve(u32 slot) { slots_[{0, slot}].set(0); }

 private:
  std::map<std::pair<u32, u32>, std::bitset<8>> slots_;
};

enum class Board : u8 { I440fx, Q35, Microvm };

inline Board board_of(const Element& domain) {
  const std::string machine = at(domain, "os/type", "machine");
  if (machine.starts_with("microvm")) return Board::Microvm;
  return machine.starts_with("pc-q35") ? Board::Q35 : Board::I440fx;
}

inline bool is_pci_controller_kind(const Element& device, Board board) {
  const std::string type = device.attribute("type");
  if (type == "pci") return !device.attribute("model").ends_with("-root");
  if (type == "usb") return device.attribute("model") != "none";
  if (type == "ide") return board == Board::I440fx;
  return type == "scsi" || type == "sata" || type == "virtio-serial";
}

/// Whether a device of this kind sits on the PCI bus (or, on microvm, behind virtio-mmio).
inline bool needs_slot(const Element& device, Board board) {
  const std::string& name = device.name();
  if (name == "controller") return is_pci_controller_kind(device, board);
  if (name == "disk") return at(device, "target", "bus") == "virtio";
  if (name == "interface" || name == "vsock") return true;
  if (name == "memballoon" || name == "rng") return !device.attribute("model").starts_with("none");
  if (name == "watchdog") return device.attribute("model") == "i6300esb";
  if (name == "video") return at(device, "model", "type") != "none";
  if (name == "input") return device.attribute("bus") == "virtio";
  return false;
}

inline void set_address(Element& device, const PciAddress& address, bool multifunction = false) {
  Element& element = device.add("address");
  element.set("type", "pci").set("domain", fmt::format("0x{:04x}", address.domain)).set("bus", fmt::format("0x{:02x}", address.bus));
  element.set("slot", fmt::format("0x{:02x}", address.slot)).set("function", fmt::format("0x{:x}", address.function));
  if (multifunction) element.set("multifunction", "on");
}

/// q35_addresses.cc: every PCI Express device gets a root port of its own, older ones sit behind a bridge. Ports and bridges that
/// this takes are added, and one free port for a device to come.
Status assign_express(Element& domain, SlotMap& map);
/// The same for one device that joins a running domain: only what is there can be used.
Result<PciAddress> free_express_place(const Element& domain, const Element& device, SlotMap& map);

}  // namespace atl::manage
