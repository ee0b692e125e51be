// The differentiated system description tables' terms, one function a board (ACPI 6.4, chapters 5 and 6).
#pragma once

#include <span>

#include "machine/acpi/aml.h"
#include "machine/acpi/spec.h"

namespace atl::machine {

/// A device at a fixed memory address with one interrupt.
struct MmioDevice {
  u32 base = 0;
  u32 size = 0;
  u32 gsi = 0;
};

struct PcAcpi {
  u32 cpus = 1;
  u64 hole_first = 0, hole_last = 0;      // PCI memory below 4 GiB
  u64 hole64_first = 0, hole64_last = 0;  // above RAM; first == last: none
  unsigned serial_ports = 0;
  u16 panic_port = 0;                     // of pvpanic; 0: none
  MmioDevice hpet = {};                   // size 0: none
  MmioDevice tpm = {};                    // size 0: none
  GuestAddr generation = 0;               // of the VM generation ID; 0: none
  u16 pm_base = acpi::kPm1EventPort;
  bool suspends = false, hibernates = false;  // S3 and S4
  u64 ecam_base = 0, ecam_size = 0;       // q35
};
/// PCI root with interrupt links, ISA devices, hotplug of 31 slots, sleep states.
aml::Code pc_dsdt(const PcAcpi& board);
/// PCI Express root with links and direct interrupts, native hotplug in root ports, ISA devices, sleep states.
aml::Code q35_dsdt(const PcAcpi& board);

struct MicrovmAcpi {
  u32 cpus = 1;
  unsigned serial_ports = 0;
  std::span<const MmioDevice> virtio;
};
/// virtio-mmio slots (LNRO0005), serial ports, clock, S5.
aml::Code microvm_dsdt(const MicrovmAcpi& board);

}  // namespace atl::machine
