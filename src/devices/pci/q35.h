// Functions of Intel's Q35 chip set that guests look for: the memory controller hub (82Q35, 8086:29c0; Intel 316966) at 00.0
// with its window to configuration space, and the ICH9's LPC bridge (8086:2918; Intel 316972, chapter 13) at 1f.0.
// Supported: PCIEXBAR with 64, 128 and 256 buses; PAM registers (stored); SMRAM and TSEG, with QEMU's register for a TSEG of 16 MiB;
//   PMBASE and ACPI_CNTL; SMI_LOCK; PIRQA to PIRQH routing. Missing: ROM shadowing by PAM, RCBA, root complex registers, TCO.
//
// Threads: configuration space under the bus's lock; the window on vCPU threads.
#pragma once

#include <functional>

#include "devices/device.h"
#include "devices/pci/bus.h"
#include "devices/pci/smram.h"

namespace atl::devices {

class MchHostBridge final : public Device {
 public:
  /// `moved` is told the window's base and size, or 0 while it is closed; vCPU thread, under the bus's lock.
  /// `smram` is nullptr without system management mode; its registers are then stored only.
  MchHostBridge(memory::AddressSpace& memory, PciBus& bus, std::unique_ptr<Smram> smram,
                std::function<void(u64 base, u64 size)> moved);
  ~MchHostBridge() override;
  std::string_view type() const override { return "mch"; }
  void reset() override;
  void visit(Archive& archive) override;
  PciFunction& function() { return function_; }
  /// What firmware does: opens the window at `base` for 256 buses. Control thread, before the guest runs.
  void open_window(u64 base);

 private:
  struct Window final : memory::BusDevice {
    explicit Window(PciBus& b) : bus(b) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;
    PciBus& bus;
  };
  void refresh();
  void place_window();
  void place_smram();

  memory::AddressSpace& memory_;
  const std::unique_ptr<Smram> smram_;
  const std::function<void(u64, u64)> moved_;
  Window window_;
  PciFunction function_;
  memory::RegionId region_ = 0;
  u64 base_ = 0, size_ = 0;
};

class Ich9LpcBridge final : public Device {
 public:
  /// `moved` is told the base port of power management, or 0 while it is off; `smi_locked`, that GEN_PMCON_1 has SMI_LOCK. vCPU thread,
  /// under the bus's lock.
  Ich9LpcBridge(PciBus& bus, std::function<void(u16 base)> moved, std::function<void()> smi_locked);
  std::string_view type() const override { return "ICH9-LPC"; }
  void reset() override;
  void visit(Archive& archive) override;
  PciFunction& function() { return function_; }
  /// PIRQ of a slot's pin (1 = INTA#): E to H rotate by slot, but for the ICH9's own slots, which have A to D.
  static unsigned pirq_of(u8 slot, u8 pin) { return slot >= 25 ? (pin - 1u) & 3 : 4 + ((slot + pin - 1u) & 3); }

 private:
  void refresh();

  PciBus& bus_;
  const std::function<void(u16)> moved_;
  const std::function<void()> smi_locked_;
  PciFunction function_;
};

}  // namespace atl::devices
