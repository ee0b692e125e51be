// The ICH9's power management ports (Intel 316972, section 13.8.3): the registers of devices/legacy/acpi_pm at the places
// that this chip set has for them, 128 ports at PMBASE.
//   +0x00 PM1   +0x20 GPE0 status   +0x28 GPE0 enable   +0x30 SMI_EN
// Missing: system management interrupts (SMI_EN says that they are set up), TCO, general-purpose events from 16 on.
//
// Threads: as acpi_pm; no state.
#pragma once

#include "devices/legacy/acpi_pm.h"

namespace atl::machine {

class Ich9PmPorts final : public memory::BusDevice {
 public:
  static constexpr u64 kPorts = 0x80;
  static constexpr u16 kGpeOffset = 0x20;
  static constexpr u8 kGpeBytes = 16;

  explicit Ich9PmPorts(devices::AcpiPm& pm) : pm_(pm) {}

  u64 bus_read(u64 offset, unsigned width) override {
    if (offset + width <= kGpeOffset) return pm_.pm1_ports().bus_read(offset, width);
    u64 value = 0;
    for (unsigned i = 0; i < width; ++i) value |= u64{read_byte(offset + i)} << (8 * i);
    return value;
  }
  void bus_write(u64 offset, u64 value, unsigned width) override {
    if (offset + width <= kGpeOffset) return pm_.pm1_ports().bus_write(offset, value, width);
    for (unsigned i = 0; i < width; ++i) {
      if (const auto at = gpe_register(offset + i)) pm_.gpe_ports().bus_write(*at, value >> (8 * i) & 0xff, 1);
    }
  }

 private:
  static constexpr u64 kSmiEnable = 0x30;
  static constexpr u8 kApmcEnable = 0x20;

  /// Where the 16 events that there are have their bytes in acpi_pm's block.
  static std::optional<u64> gpe_register(u64 offset) {
    const u64 at = offset - kGpeOffset;
    if (offset < kGpeOffset || at >= kGpeBytes || at % 8 >= 2) return std::nullopt;
    return at < 8 ? at : at - 8 + 2;
  }
  u8 read_byte(u64 offset) {
    if (offset == kSmiEnable) return kApmcEnable;
    const auto at = gpe_register(offset);
    return at ? static_cast<u8>(pm_.gpe_ports().bus_read(*at, 1)) : u8{0};
  }

  devices::AcpiPm& pm_;
};

}  // namespace atl::machine
