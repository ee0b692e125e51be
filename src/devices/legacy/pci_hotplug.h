// Registers through which the DSDT learns of plugged and unplugged PCI devices and ejects them: the layout of QEMU's
// docs/specs/acpi_pci_hotplug, at port 0xae00, for one bus of 32 slots.
//   +0x00 up (read, clears)   +0x04 down (read)   +0x08 eject (write)   +0x0c removable (read)   +0x10 bus selector
//   +0x14 ACPI index of the slot written there (no device has one: reads 0)
// Threads: registers from vCPU threads, the rest from the control thread; one mutex. `eject` is called without locks.
#pragma once

#include <functional>

#include "base/sync.h"
#include "devices/device.h"
#include "memory/address_space.h"

namespace atl::devices {

class PciHotplug final : public Device, public memory::BusDevice {
 public:
  static constexpr u64 kPorts = 0x18;

  struct Callbacks {
    std::function<void()> changed;            // up or down got a bit: raise the general-purpose event
    std::function<void(unsigned slot)> eject;  // the guest let go of the slot; vCPU thread, or reset()'s
  };
  explicit PciHotplug(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}

  std::string_view type() const override { return "acpi-pci-hotplug"; }
  void reset() override;
  void visit(Archive& archive) override;

  void set_removable(unsigned slot, bool removable);
  void announce_plugged(unsigned slot);
  void request_unplug(unsigned slot);
  bool unplug_pending(unsigned slot);

  u64 bus_read(u64 offset, unsigned width) override;
  void bus_write(u64 offset, u64 value, unsigned width) override;

 private:
  u32 read_register(u64 offset) REQUIRES(mutex_);
  void eject(u32 slots);

  const Callbacks callbacks_;
  Mutex mutex_;
  u32 up_ GUARDED_BY(mutex_) = 0;
  u32 down_ GUARDED_BY(mutex_) = 0;
  u32 removable_ GUARDED_BY(mutex_) = 0;
  u32 selected_bus_ GUARDED_BY(mutex_) = 0;
};

}  // namespace atl::devices
