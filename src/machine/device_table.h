// Which device types and properties exist: for `-device help`, `-device X,help`, checks of names, and construction.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"
#include "machine/config.h"

namespace atl::machine {

/// FixedBool: a switch of QEMU's that only its default is taken of, since the other setting is not implemented.
enum class PropertyType : u8 { Bool, FixedBool, U16, U32, U64, Size, String, Mac, PciAddress, OnOffAuto, Drive, Netdev, Chardev, Rng, IoThread };

struct PropertySpec {
  std::string_view name;
  PropertyType type;
  std::string_view fallback;      // default, as text
  std::string_view description;
};

struct DeviceSpec {
  std::string_view type;          // "virtio-blk-pci"
  std::string_view category;      // "Storage devices", as -device help groups them
  std::string_view bus;           // "PCI", "virtio-bus" (MMIO), "ISA"
  std::string_view description;
  bool hotpluggable = false;
  std::span<const PropertySpec> properties;
};

std::span<const DeviceSpec> device_specs();
const DeviceSpec* find_device_spec(std::string_view type);
/// Whether devices of the type have a property of this name and kind.
bool has_property(std::string_view device_type, std::string_view name, PropertyType type);
/// Whether type, property names and the form of their values are right; the error names the culprit as QEMU does
/// ("'foo' is not a valid device model name", "Property 'virtio-blk-pci.bar' not found").
Status check_device(const DeviceConfig& device);
/// Slot and function of "5", "0x5", "5.1" or "0x5.0x1": hexadecimal either way.
std::optional<std::pair<u8, u8>> parse_pci_place(std::string_view text);

}  // namespace atl::machine
