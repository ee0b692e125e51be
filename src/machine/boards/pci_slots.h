// Where -device and device_add put devices of boards with PCI: the slots of the root bus and of the buses behind bridges that
// were plugged before. Tells the guest of what comes and goes while it runs, by ACPI's registers (docs/specs/acpi_pci_hotplug
// of QEMU) on "pc" and by the slot registers of PCI Express root ports.
//
// Threads: control thread; the guest's answers come on vCPU threads. The control thread changes the list of what is plugged
// only with the vCPUs stopped.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "devices/legacy/pci_hotplug.h"
#include "devices/pci/bridge.h"
#include "machine/boards/board.h"
#include "machine/boards/firmware.h"
#include "machine/boards/pci_chipset.h"

namespace atl::machine {

class PciSlots {
 public:
  /// `raise_event`: ACPI's registers have news for the guest.
  PciSlots(const BoardContext& context, PciChipset& chips, BootOrder& boot_order, std::function<void()> raise_event);
  ~PciSlots();

  Result<devices::Device*> plug(std::unique_ptr<devices::VirtioDevice> device, const PlugRequest& request);
  Result<devices::Device*> plug_pci(std::unique_ptr<devices::PciDevice> device, const PlugRequest& request);
  Status request_unplug(devices::Device& device);
  std::unique_ptr<devices::Device> unplug(devices::Device& device);

  /// ACPI's registers.
  devices::PciHotplug& registers() { return registers_; }
  /// What is plugged, in the order of its coming.
  std::vector<devices::Device*> devices() const;
  /// Everything on the root bus and behind it.
  std::vector<devices::PciFunctionInfo> functions() const;
  /// "" if the device is not plugged, or has none.
  std::string id_of(const devices::Device& device) const;
  std::string place_of(const devices::Device& device) const;
  Result<std::string> firmware_path(const devices::Device& device, std::string_view name) const;

 private:
  struct Plugged {
    devices::PciAddress at;
    std::string id;
    bool removable = true;
    std::unique_ptr<devices::PciDevice> device;
    devices::PciBus* bus = nullptr;
    devices::PciBridge* parent = nullptr;  // nullptr: on the root bus
    std::string path;                      // Open Firmware's, but for the device's own node
  };

  /// Where a device goes, still without a device.
  Result<Plugged> choose_place(const PlugRequest& request);
  static Result<devices::PciAddress> choose_address(const devices::PciBus& bus, u8 first, const PlugRequest& request);
  devices::PciBridge* find_bridge(std::string_view id);
  bool has_hotplug_slot(const devices::PciBridge* parent) const;
  void announce(const Plugged& plugged, bool hotplugged);
  void name_functions(std::vector<devices::PciFunctionInfo>& functions) const;
  const Plugged* find(const devices::Device& device) const;
  void on_eject(unsigned slot);
  void on_slot_off(const devices::PciDevice& port);
  static std::string firmware_node(const Plugged& plugged, std::string_view name);

  const BoardContext& context_;
  PciChipset& chips_;
  BootOrder& boot_order_;
  devices::PciHotplug registers_;
  std::vector<Plugged> plugged_;
};

}  // namespace atl::machine
