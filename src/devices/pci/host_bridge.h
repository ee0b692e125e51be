// The two chipset functions that guests look for on an i440FX/PIIX3 board: the host bridge (82441FX, 8086:1237) at 00.0
// and the PCI-to-ISA bridge (82371SB PIIX3, 8086:7000) at 01.0. Intel datasheets 290549 and 290550.
// Supported: identification, PAM registers (stored), PIRQ routing (PIRQRCA to PIRQRCD). Missing: ROM shadowing by PAM.
//
// Threads: configuration space only, under the bus's lock.
#pragma once

#include "devices/device.h"
#include "devices/pci/bus.h"

namespace atl::devices {

class I440fxHostBridge final : public Device {
 public:
  I440fxHostBridge();
  std::string_view type() const override { return "i440FX"; }
  void reset() override { function_.reset(); }
  void visit(Archive& archive) override { function_.visit(archive); }
  PciFunction& function() { return function_; }

 private:
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
