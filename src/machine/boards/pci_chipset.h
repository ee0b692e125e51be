// The two chip sets of boards with PCI: Intel 440FX with PIIX3/PIIX4 ("pc") and Q35 with ICH9 ("q35"). A chip set is a root
// bus with its fixed functions, and what tables say of it.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "devices/device.h"
#include "devices/pci/bus.h"
#include "machine/boards/board.h"

namespace atl::machine {

/// The window to configuration space, where there is one.
struct EcamWindow {
  u64 base = 0, size = 0;
};

class PciChipset {
 public:
  struct Traits {
    std::string_view root_bus;   // "pci.0"
    std::string_view host;       // "i440FX-pcihost"
    u8 first_free_slot = 0;
    bool root_hotplug = false;   // by ACPI
  };
  /// What the board follows; vCPU thread, or the control thread at a reset.
  struct Callbacks {
    std::function<void(u16 base)> power_management_moved;
    std::function<void()> window_moved;
    std::function<void()> smi_locked;
  };
  virtual ~PciChipset() = default;
  virtual const Traits& traits() const = 0;
  virtual devices::PciBus& bus() = 0;
  virtual std::vector<devices::Device*> devices() = 0;
  virtual EcamWindow window() const { return {}; }
  /// A write to the SMI command port.
  virtual void smi_command_written() {}
  /// Does what firmware would have done before a kernel starts.
  virtual void prepare_without_firmware() {}
};

Result<std::unique_ptr<PciChipset>> create_i440fx(const BoardContext& context, PciChipset::Callbacks callbacks);
Result<std::unique_ptr<PciChipset>> create_q35_chipset(const BoardContext& context, PciChipset::Callbacks callbacks);

}  // namespace atl::machine
