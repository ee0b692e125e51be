#include "machine/acpi/dsdt.h"

#include <array>
#include <string>

#include <fmt/core.h>

#include "devices/legacy/acpi_pm.h"
#include "machine/acpi/spec.h"

namespace atl::machine {
namespace {

using namespace aml;

constexpr std::array<std::pair<u16, u8>, 4> kSerialPorts = {{{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}}};

Code processors(u32 count) {
  std::vector<Code> all;
  for (u32 i = 0; i < count; ++i) all.push_back(processor_device(fmt::format("C{:03X}", i), i));
  return scope("\\_SB", {concat(all)});
}

/// SLP_TYP of PM1a and PM1b.
Code sleep_state(const char* state, devices::AcpiPm::SleepType type) {
  return name(state, package({integer(type), integer(type), integer(0), integer(0)}));
}

Code soft_off() { return sleep_state("\\_S5", devices::AcpiPm::kSoftOff); }

Code sleep_states(const PcAcpi& board) {
  return concat({board.suspends ? sleep_state("\\_S3", devices::AcpiPm::kSuspend) : Code{},
                 board.hibernates ? sleep_state("\\_S4", devices::AcpiPm::kHibernate) : Code{}, soft_off()});
}

Code clock_device() {
  return device("RTC", {name("_HID", eisa_id("PNP0B00")), name("_CRS", resources({io(0x70, 2), irq(8)}))});
}

/// The keyboard controller's two devices share its ports; the keyboard's node claims them.
Code keyboard_and_mouse() {
  return concat({device("KBD", {name("_HID", eisa_id("PNP0303")),
                                name("_CRS", resources({io(0x60, 1), io(0x64, 1), irq(1)}))}),
                 device("MOU", {name("_HID", eisa_id("PNP0F13")), name("_CRS", resources({irq(12)}))})});
}

Code serial_devices(unsigned count) {
  std::vector<Code> all;
  for (unsigned i = 0; i < count && i < kSerialPorts.size(); ++i) {
    const auto [port, line] = kSerialPorts[i];
    all.push_back(device(fmt::format("COM{}", i + 1),
                         {name("_HID", eisa_id("PNP0501")), name("_UID", integer(i + 1)),
                          name("_CRS", resources({io(port, 8, 8), irq(line)}))}));
  }
  return concat(all);
}

/// QEMU docs/specs/pvpanic.
Code panic_device(u16 port) {
  if (!port) return {};
  return device("PEVT", {name("_HID", text("QEMU0001")), name("_CRS", resources({io(port, 1)})), name("_STA", integer(0x0f))});
}

Code hpet_device(const MmioDevice& hpet) {
  if (!hpet.size) return {};
  return device("HPET", {name("_HID", eisa_id("PNP0103")), name("_UID", integer(0)), name("_CRS", resources({memory_fixed(hpet.base, hpet.size)}))});
}

/// "Virtual Machine Generation ID" (Microsoft, 2012): ADDR gives the address's halves.
Code generation_device(GuestAddr at) {
  if (!at) return {};
  return device("VGEN", {name("_HID", text("ATOL0001")), name("_CID", package({text("VM_Gen_Counter"), text("VMGENCTR")})),
                         name("_DDN", text("VM_Gen_Counter")), name("ADDR", package({integer(at & 0xffffffff), integer(at >> 32)})),
                         name("_STA", integer(0x0f))});
}

/// TCG ACPI Specification 1.3, 8: the TPM2 table has the rest.
Code tpm_device(const MmioDevice& tpm) {
  if (!tpm.size) return {};
  return device("TPM", {name("_HID", text("MSFT0101")), name("_CRS", resources({memory_fixed(tpm.base, tpm.size)})), name("_STA", integer(0x0f))});
}

/// Chip set ports that no other device describes, so that nothing else is put there.
Code motherboard_resources(Codes ports) {
  return device("MBRD", {name("_HID", eisa_id("PNP0C02")), name("_CRS", resources(ports))});
}

// Interrupt links: PIRQA to D, routed by the ISA bridge's registers 0x60 to 0x63 (PIIX3 data sheet, PIRQRC).

std::string link_name(unsigned index) { return fmt::format("LNK{}", static_cast<char>('A' + index)); }
std::string route_field(unsigned index) { return fmt::format("\\_SB.PCI0.ISA.PRQ{}", index); }

Code link_device(unsigned index) {
  constexpr u64 kOff = 0x80, kInterruptOffset = 5;  // of the first number in an extended interrupt descriptor
  const Code route = path(route_field(index));
  const std::array<u32, 3> possible = {acpi::kPciLinkIrqs[0], acpi::kPciLinkIrqs[1], acpi::kPciLinkIrqs[2]};
  const std::array<u32, 1> unknown = {0};
  const InterruptFlags shared_level = {.shared = true};
  return device(link_name(index), {
      name("_HID", eisa_id("PNP0C0F")),
      name("_UID", integer(index)),
      name("_PRS", resources({interrupt(possible, shared_level)})),
      method("_STA", 0, Serialized::No,
             {if_true(bit_and(route, integer(kOff)), {return_value(integer(9))}), return_value(integer(11))}),
      method("_DIS", 0, Serialized::No, {bit_or(route, integer(kOff), route)}),
      method("_CRS", 0, Serialized::Yes,
             {name("BUFF", resources({interrupt(unknown, shared_level)})),
              create_dword_field(path("BUFF"), kInterruptOffset, "NUMB"),
              if_true(equal(bit_and(route, integer(kOff)), integer(0)), {store(route, path("NUMB"))}),
              return_value(path("BUFF"))}),
      method("_SRS", 1, Serialized::Yes,
             {create_dword_field(arg(0), kInterruptOffset, "NUMB"), store(path("NUMB"), route)}),
  });
}

/// Pins rotate by slot: slot s, pin p (0 = INTA#) goes to link (s + p + 3) mod 4.
Code interrupt_routing() {
  std::vector<Code> entries;
  for (u64 slot = 1; slot < 32; ++slot) {
    for (u64 pin = 0; pin < 4; ++pin) {
      const auto link = static_cast<unsigned>((slot + pin + 3) & 3);
      entries.push_back(package({integer(slot << 16 | 0xffff), integer(pin), path("\\_SB." + link_name(link)), integer(0)}));
    }
  }
  return name("_PRT", package(entries));
}

Code isa_bridge(const PcAcpi& board) {
  return device("ISA", {
      name("_ADR", integer(0x00010000)),
      region("PIRQ", Space::PciConfig, 0x60, 4),
      field("PIRQ", Access::Byte, {{"PRQ0", 8}, {"PRQ1", 8}, {"PRQ2", 8}, {"PRQ3", 8}}),
      clock_device(),
      keyboard_and_mouse(),
      serial_devices(board.serial_ports),
      panic_device(board.panic_port),
      tpm_device(board.tpm),
      motherboard_resources({io(board.pm_base, 0x40), io(acpi::kGpe0Port, 4), io(acpi::kSmiCommandPort, 2), io(0x92, 1),
                             io(acpi::kPciHotplugPort, 0x18)}),
  });
}

/// The window to configuration space, if there is one, cuts the hole in two.
Code root_windows(const PcAcpi& board) {
  std::vector<Code> windows = {bus_range(0, 0xff), io(0xcf8, 8), io_range(0, 0xcf7), io_range(0xd00, 0xffff),
                               memory_range(0xa0000, 0xbffff)};
  const bool cut = board.ecam_size && board.ecam_base >= board.hole_first && board.ecam_base <= board.hole_last;
  const u64 resumes = cut ? board.ecam_base + board.ecam_size : board.hole_first;
  if (cut && board.ecam_base > board.hole_first) windows.push_back(memory_range(board.hole_first, board.ecam_base - 1));
  if (resumes < board.hole_last) windows.push_back(memory_range(resumes, board.hole_last));
  if (board.hole64_last > board.hole64_first) windows.push_back(memory_range(board.hole64_first, board.hole64_last));
  return name("_CRS", resources(windows));
}

// Hotplug: QEMU's ACPI PCI hotplug registers (docs/specs/acpi_pci_hotplug).

std::string slot_name(unsigned slot) { return fmt::format("S{:02X}", slot * 8); }

Code hotplug_registers() {
  return concat({
      region("HPRG", Space::Io, acpi::kPciHotplugPort, 0x18),
      field("HPRG", Access::Dword, {{"PCIU", 32}, {"PCID", 32}, {"B0EJ", 32}, {"", 32}, {"BNUM", 32}}),
      mutex("HPLK"),
      method("PCEJ", 1, Serialized::No,
             {acquire("HPLK"), store(integer(0), path("BNUM")), store(arg(0), path("B0EJ")), release("HPLK"),
              return_value(integer(0))}),
  });
}

Code hotplug_slots() {
  std::vector<Code> slots;
  for (unsigned slot = 2; slot < 32; ++slot) {
    slots.push_back(device(slot_name(slot), {
        name("_ADR", integer(u64{slot} << 16)),
        name("_SUN", integer(slot)),
        method("_EJ0", 1, Serialized::No, {call("PCEJ", {integer(u64{1} << slot)})}),
    }));
  }
  return concat(slots);
}

/// Notifies each slot whose bit is set in the first argument with the second.
Code notify_method() {
  std::vector<Code> tests;
  for (unsigned slot = 2; slot < 32; ++slot) {
    tests.push_back(if_true(bit_and(arg(0), integer(u64{1} << slot)), {notify(path(slot_name(slot)), arg(1))}));
  }
  return method("DVNT", 2, Serialized::No, {concat(tests)});
}

Code hotplug_event() {
  constexpr u64 kDeviceCheck = 1, kEjectRequest = 3;
  return scope("\\_GPE", {method("_E01", 0, Serialized::No, {
      acquire("\\_SB.PCI0.HPLK"),
      store(integer(0), path("\\_SB.PCI0.BNUM")),
      call("\\_SB.PCI0.DVNT", {path("\\_SB.PCI0.PCIU"), integer(kDeviceCheck)}),
      call("\\_SB.PCI0.DVNT", {path("\\_SB.PCI0.PCID"), integer(kEjectRequest)}),
      release("\\_SB.PCI0.HPLK"),
  })});
}

Code pci_root(const PcAcpi& board) {
  return device("PCI0", {
      name("_HID", eisa_id("PNP0A03")), name("_ADR", integer(0)), name("_UID", integer(0)), name("_BBN", integer(0)),
      root_windows(board), interrupt_routing(), isa_bridge(board),
      hotplug_registers(), hotplug_slots(), notify_method(),
  });
}

// q35: links A to H for the PIC, and the I/O APIC's inputs 16 to 23, which PIRQ A to H have to themselves.

constexpr unsigned kPirqs = 8, kFirstLpcSlot = 25;
constexpr u32 kDirectGsi = 16;

std::string gsi_name(unsigned index) { return fmt::format("GSI{}", static_cast<char>('A' + index)); }

Code gsi_device(unsigned index) {
  const std::array<u32, 1> gsi = {kDirectGsi + index};
  const Code is = resources({interrupt(gsi, {.shared = true})});
  return device(gsi_name(index), {name("_HID", eisa_id("PNP0C0F")), name("_UID", integer(kPirqs + index)), name("_PRS", is),
                                  name("_CRS", is), method("_SRS", 1, Serialized::No, {})});
}

/// As Ich9LpcBridge::pirq_of.
Code q35_routes(std::string (*target)(unsigned)) {
  std::vector<Code> entries;
  for (u64 slot = 0; slot < 32; ++slot) {
    for (u64 pin = 0; pin < 4; ++pin) {
      const auto pirq = static_cast<unsigned>(slot >= kFirstLpcSlot ? pin : 4 + ((slot + pin) & 3));
      entries.push_back(package({integer(slot << 16 | 0xffff), integer(pin), path("\\_SB." + target(pirq)), integer(0)}));
    }
  }
  return package(entries);
}

/// The operating system says by _PIC (5.8.1) whether it uses the I/O APIC.
Code q35_interrupt_routing() {
  return concat({name("PRTP", q35_routes(link_name)), name("PRTA", q35_routes(gsi_name)),
                 method("_PRT", 0, Serialized::No,
                        {if_true(equal(path("\\PICF"), integer(0)), {return_value(path("PRTP"))}), return_value(path("PRTA"))})});
}

/// _OSC (6.2.11): native hotplug, power management events and the capability structure are the operating system's.
Code osc_method() {
  constexpr std::array<u8, 16> kPciHostUuid = {0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40,
                                               0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66};
  constexpr u64 kGranted = 0x15, kUnknownUuid = 4;
  return method("_OSC", 4, Serialized::Yes,
                {create_dword_field(arg(3), 0, "CDW1"),
                 if_true(equal(arg(0), buffer(kPciHostUuid)),
                         {create_dword_field(arg(3), 8, "CDW3"), bit_and(path("CDW3"), integer(kGranted), path("CDW3")), return_value(arg(3))}),
                 bit_or(path("CDW1"), integer(kUnknownUuid), path("CDW1")), return_value(arg(3))});
}

Code lpc_bridge(const PcAcpi& board) {
  return device("ISA", {
      name("_ADR", integer(0x001f0000)),
      region("PIRQ", Space::PciConfig, 0x60, 0x0c),
      field("PIRQ", Access::Byte, {{"PRQ0", 8}, {"PRQ1", 8}, {"PRQ2", 8}, {"PRQ3", 8}, {"", 32}, {"PRQ4", 8}, {"PRQ5", 8}, {"PRQ6", 8}, {"PRQ7", 8}}),
      clock_device(),
      keyboard_and_mouse(),
      serial_devices(board.serial_ports),
      panic_device(board.panic_port),
      tpm_device(board.tpm),
      motherboard_resources({io(board.pm_base, 0x80), io(acpi::kSmiCommandPort, 2), io(0x92, 1)}),
  });
}

Code configuration_window(const PcAcpi& board) {
  if (!board.ecam_size) return {};
  return device("DRAC", {name("_HID", eisa_id("PNP0C01")),
                         name("_CRS", resources({memory_fixed(static_cast<u32>(board.ecam_base), static_cast<u32>(board.ecam_size))}))});
}

Code express_root(const PcAcpi& board) {
  return device("PCI0", {name("_HID", eisa_id("PNP0A08")), name("_CID", eisa_id("PNP0A03")), name("_ADR", integer(0)), name("_UID", integer(0)),
                         name("_BBN", integer(0)), root_windows(board), osc_method(), q35_interrupt_routing(), lpc_bridge(board)});
}

Code virtio_devices(std::span<const MmioDevice> devices) {
  std::vector<Code> all;
  unsigned index = 0;
  for (const MmioDevice& d : devices) {
    const std::array<u32, 1> gsi = {d.gsi};
    all.push_back(device(fmt::format("VR{:02X}", index), {
        name("_HID", text("LNRO0005")), name("_UID", integer(index)), name("_CCA", integer(1)),
        name("_CRS", resources({memory_fixed(d.base, d.size), interrupt(gsi, {.edge = true})})),
    }));
    ++index;
  }
  return concat(all);
}

}  // namespace

Code pc_dsdt(const PcAcpi& board) {
  const Code links = concat({link_device(0), link_device(1), link_device(2), link_device(3)});
  return concat({processors(board.cpus), scope("\\_SB", {pci_root(board), hpet_device(board.hpet), generation_device(board.generation), links}), hotplug_event(), sleep_states(board)});
}

Code q35_dsdt(const PcAcpi& board) {
  std::vector<Code> links;
  for (unsigned i = 0; i < kPirqs; ++i) links.push_back(concat({link_device(i), gsi_device(i)}));
  const Code pic = concat({name("PICF", integer(0)), method("_PIC", 1, Serialized::No, {store(arg(0), path("\\PICF"))})});
  return concat({pic, processors(board.cpus), scope("\\_SB", {express_root(board), configuration_window(board), hpet_device(board.hpet), generation_device(board.generation), concat(links)}), sleep_states(board)});
}

Code microvm_dsdt(const MicrovmAcpi& board) {
  return concat({processors(board.cpus),
                 scope("\\_SB", {clock_device(), serial_devices(board.serial_ports), virtio_devices(board.virtio)}),
                 soft_off()});
}

}  // namespace atl::machine
