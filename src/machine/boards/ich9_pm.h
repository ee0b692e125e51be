// The ICH9's power management ports (Intel 316972, section 13.8.3): the registers of devices/legacy/acpi_pm at the places
// that this chip set has for them, 128 ports at PMBASE.
//   +0x00 PM1   +0x20 GPE0 status   +0x28 GPE0 enable   +0x30 SMI_EN   +0x34 SMI_STS
// Missing: TCO, general-purpose events from 16 on.
//
// Threads: as acpi_pm and ich9_smi; set_decoded() with the PCI bus's lock held.
#pragma once

#include <atomic>

#include "devices/legacy/acpi_pm.h"
#include "devices/legacy/ich9_smi.h"

namespace atl::machine {

class Ich9PmPorts final : public memory::BusDevice {
 public:
  static constexpr u64 kPorts = 0x80;
  static constexpr u16 kGpeOffset = 0x20;
  static constexpr u8 kGpeBytes = 16;

  Ich9PmPorts(devices::AcpiPm& pm, devices::Ich9Smi& smi) : pm_(pm), smi_(smi) {}

  /// ACPI_EN: nobody answers at the ports while it is off.
  void set_decoded(bool decoded) { decoded_ = decoded; }

  u64 bus_read(u64 offset, unsigned width) override {
    if (!decoded_) return ~u64{0};
    if (offset + width <= kGpeOffset) return pm_.pm1_ports().bus_read(offset, width);
    u64 value = 0;
    for (unsigned i = 0; i < width; ++i) value |= u64{read_byte(offset + i)} << (8 * i);
    return value;
  }
  void bus_write(u64 offset, u64 value, unsigned width) override {
    if (!decoded_) return;
    if (offset + width <= kGpeOffset) return pm_.pm1_ports().bus_write(offset, value, width);
    for (unsigned i = 0; i < width; ++i) write_byte(offset + i, static_cast<u8>(value >> (8 * i)));
  }

 private:
  static constexpr u64 kSmiPorts = 0x30;

  /// Where the 16 events that there are have their bytes in acpi_pm's block.
  static std::optional<u64> gpe_register(u64 offset) {
    const u64 at = offset - kGpeOffset;
    if (offset < kGpeOffset || at >= kGpeBytes || at % 8 >= 2) return std::nullopt;
    return at < 8 ? at : at - 8 + 2;
  }
  u8 read_byte(u64 offset) {
    if (offset - kSmiPorts < devices::Ich9Smi::kPorts) return smi_.read_byte(offset - kSmiPorts);
    const auto at = gpe_register(offset);
    return at ? static_cast<u8>(pm_.gpe_ports().bus_read(*at, 1)) : u8{0};
  }

  void write_byte(u64 offset, u8 value) {
    if (offset - kSmiPorts < devices::Ich9Smi::kPorts) return smi_.write_byte(offset - kSmiPorts, value);
    if (const auto at = gpe_register(offset)) pm_.gpe_ports().bus_write(*at, value, 1);
  }

  devices::AcpiPm& pm_;
  devices::Ich9Smi& smi_;
  std::atomic<bool> decoded_{true};
};

}  // namespace atl::machine
