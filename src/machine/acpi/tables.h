// ACPI tables of our boards (ACPI 6.4, chapter 5): RSDP, XSDT, RSDT, FADT, FACS, MADT, MCFG, HPET, DSDT.
// They are built as one blob with open references, which are resolved here for a direct kernel boot and by the firmware
// (through fw_cfg's table loader) otherwise.
#pragma once

#include <string>
#include <vector>

#include "base/types.h"
#include "machine/acpi/aml.h"
#include "machine/acpi/spec.h"
#include "machine/config.h"
#include "memory/guest_memory.h"

namespace atl::machine {

/// What the tables say about a board.
struct AcpiBoard {
  aml::Code dsdt;                // terms, without the table's header
  u32 cpus = 1;
  bool has_pic = true;           // 8259 pair and ISA interrupts' overrides (pc); else I/O APIC alone
  bool handover = false;         // firmware enables ACPI through the SMI command port
  u16 pm_base = acpi::kPm1EventPort;
  u16 gpe_port = acpi::kGpe0Port;
  u8 gpe_bytes = 4;
  u64 ecam_base = 0, ecam_size = 0;  // the window to PCI configuration space; size 0: none
  bool has_hpet = false;
  std::vector<std::vector<u8>> more = {};  // whole tables, checksums right
};

struct AcpiBlob {
  struct Pointer {
    u32 offset = 0;   // of the field in the blob
    u8 bytes = 4;
    u32 target = 0;   // offset in the blob that it shall point at
  };
  struct Checksum {
    u32 offset = 0, start = 0, length = 0;
  };

  std::vector<u8> tables;        // FACS first, at a multiple of 64
  std::vector<u8> rsdp;          // 36 bytes, its pointers as offsets
  u32 rsdt = 0, xsdt = 0;        // offsets in `tables`
  std::vector<Pointer> pointers;     // ordered: a checksum holds once all pointers are set
  std::vector<Checksum> checksums;
};

AcpiBlob build_acpi(const AcpiBoard& board);

/// Reads what -acpitable names. Errors name the file or the field.
Result<std::vector<std::vector<u8>>> load_acpi_tables(const std::vector<AcpiTableConfig>& tables);

/// The TPM2 table (TCG ACPI Specification 1.3, 7.3) of a command response buffer interface, or with 0 of a FIFO, without a log.
std::vector<u8> tpm2_table(u64 control_area);

/// Puts the tables at `base`, the RSDP first; gives the RSDP's address. For a boot without firmware.
Result<GuestAddr> install_acpi(const AcpiBlob& blob, const memory::GuestMemory& memory, GuestAddr base, u64 limit);

/// The commands of fw_cfg's "etc/table-loader" for files "etc/acpi/tables" and "etc/acpi/rsdp".
std::vector<u8> table_loader_script(const AcpiBlob& blob);

}  // namespace atl::machine
