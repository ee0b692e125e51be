// What both boards have: serial ports, real-time clock, power management, debug ports, and starting a kernel or firmware.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "devices/legacy/acpi_pm.h"
#include "devices/legacy/debug_ports.h"
#include "devices/legacy/gated_line.h"
#include "devices/legacy/hpet.h"
#include "devices/legacy/rtc.h"
#include "devices/legacy/serial_16550.h"
#include "machine/acpi/tables.h"
#include "machine/boards/board.h"
#include "machine/boards/ich9_pm.h"
#include "machine/loaders/kernel.h"
#include "machine/loaders/smbios.h"

namespace atl::machine {

/// A block of ports that some device answers.
struct PortBlock {
  const char* name;
  u16 base;
  u16 size;
  memory::BusDevice* device;
};
Status map_ports(memory::AddressSpace& ports, std::span<const PortBlock> blocks);

/// Builds the parts in the order of declaration; they are destroyed in reverse.
class Chipset {
 public:
  static Result<std::unique_ptr<Chipset>> create(const BoardContext& context);

  devices::Rtc& rtc() { return *rtc_; }
  devices::AcpiPm& pm() { return *pm_; }
  devices::Ich9Smi* smi() { return smi_.get(); }  // q35
  /// Moves the PM1 registers; false if they are there already, or cannot be there.
  bool move_power_management(memory::AddressSpace& ports, u16 base);
  /// Whether ICH9's registers answer; others' always do.
  void decode_power_management(bool on) {
    if (ich9_) ich9_->set_decoded(on);
  }
  /// Where GPE0 is and how many bytes it has.
  u16 gpe_port() const { return ich9_ ? static_cast<u16>(pm_base() + Ich9PmPorts::kGpeOffset) : acpi::kGpe0Port; }
  u8 gpe_bytes() const { return ich9_ ? Ich9PmPorts::kGpeBytes : static_cast<u8>(devices::AcpiPm::kGpePorts); }
  u16 pm_base() const { return pm_base_.load(); }
  unsigned serial_ports() const { return static_cast<unsigned>(serial_.size()); }
  std::vector<devices::Device*> devices();

 private:
  Chipset() = default;
  Status add_serial(const BoardContext& context);
  Status add_clock(const BoardContext& context);
  Status add_hpet(const BoardContext& context);
  Status add_power_management(const BoardContext& context);
  Status add_debug_ports(const BoardContext& context);

  std::unique_ptr<devices::GatedLine> rtc_line_;
  std::unique_ptr<devices::Rtc> rtc_;
  std::unique_ptr<devices::Hpet> hpet_;
  std::unique_ptr<devices::AcpiPm> pm_;
  std::unique_ptr<devices::Ich9Smi> smi_;  // q35
  std::unique_ptr<Ich9PmPorts> ich9_;      // q35
  memory::RegionId pm_region_ = 0;
  std::atomic<u16> pm_base_{acpi::kPm1EventPort};
  std::vector<std::unique_ptr<devices::Serial16550>> serial_;
  std::vector<std::unique_ptr<devices::Device>> others_;
};

/// What SMBIOS says of the machine.
SmbiosSystem smbios_system(const Config& config);

/// A direct kernel boot: the tables that firmware would have left, then the kernel.
Result<BootEntry> start_kernel(const BoardContext& context, const DirectBoot& boot, const RamLayout& ram,
                               const std::optional<AcpiBlob>& acpi);

}  // namespace atl::machine
