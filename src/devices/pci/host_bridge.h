// The two chipset functions that guests look for on an i440FX/PIIX3 board: the host bridge (82441FX, 8086:1237) at 00.0
// and the PCI-to-ISA bridge (82371SB PIIX3, 8086:7000) at 01.0. Intel datasheets 290549 and 290550.
// Supported: identification, PAM registers (stored), SMRAM, PIRQ routing (PIRQRCA to PIRQRCD). Missing: ROM shadowing by PAM.
//
// Threads: configuration space only, under the bus's lock.
#pragma once

#include "devices/device.h"
#include "devices/pci/bus.h"
#include "devices/pci/smram.h"

namespace atl::devices {

class I440fxHostBridge final : public Device {
 public:
  /// `smram` is nullptr without system management mode; the register is then stored only.
  explicit I440fxHostBridge(std::unique_ptr<Smram> smram);
  std::string_view type() const override { return "i440FX"; }
  void reset() override;
  void visit(Archive& archive) override;
  PciFunction& function() { return function_; }

 private:
  void refresh();

  const std::unique_ptr<Smram> smram_;
  PciFunction function_;
};

class Piix3IsaBridge final : public Device {
 public:
  /// `bus` is where its PIRQ routing takes effect.
  explicit Piix3IsaBridge(PciBus& bus);
  std::string_view type() const override { return "PIIX3"; }
  void reset() override;
  void visit(Archive& archive) override;
  PciFunction& function() { return function_; }

 private:
  void route();

  PciBus& bus_;
  PciFunction function_;
};

}  // namespace atl::devices
