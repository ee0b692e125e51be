// Text of `info pci`.
#include <fmt/core.h>

#include "devices/pci/bus.h"

namespace atl::devices {

using namespace pci;

namespace {

/// Base class and sub-class; PCI Code and ID Assignment Specification.
constexpr struct {
  u16 code;
  const char* name;
} kClasses[] = {
    {0x0100, "SCSI controller"},  {0x0101, "IDE controller"},       {0x0180, "Storage controller"},
    {0x0200, "Ethernet controller"}, {0x0300, "VGA controller"},   {0x0500, "RAM controller"},
    {0x0600, "Host bridge"},      {0x0601, "ISA bridge"},           {0x0680, "Bridge"},
    {0x0780, "Serial controller"}, {0x0c03, "USB controller"},
};

std::string class_name(u16 code) {
  for (const auto& known : kClasses)
    if (known.code == code) return known.name;
  return fmt::format("Class {:04x}", code);
}

std::string bar_line(const PciFunction& function, unsigned index) {
  const PciBar& bar = function.bar(index);
  u64 first = function.bar_address(index);
  u64 last = first + bar.size - 1;
  if (bar.kind == PciBar::Kind::Io) return fmt::format("      BAR{}: I/O at 0x{:04x} [0x{:04x}].\n", index, first, last);
  return fmt::format("      BAR{}: {} bit {}memory at 0x{:08x} [0x{:08x}].\n", index,
                     bar.kind == PciBar::Kind::Memory64 ? 64 : 32, bar.prefetchable ? "prefetchable " : "", first, last);
}

std::string function_text(u8 slot, u8 number, const PciFunction& function) {
  std::string text = fmt::format("  Bus  0, device {:3}, function {}:\n", slot, number);
  u16 code = function.word(kClassCode + 1);
  text += fmt::format("    {}: PCI device {:04x}:{:04x}\n", class_name(code), function.word(kVendorId),
                      function.word(kDeviceId));
  if (u16 vendor = function.word(kSubsystemVendorId))
    text += fmt::format("      PCI subsystem {:04x}:{:04x}\n", vendor, function.word(kSubsystemId));
  if (u8 pin = function.byte(kInterruptPin))
    text += fmt::format("      IRQ {}, pin {}\n", function.byte(kInterruptLine), static_cast<char>('A' + pin - 1));
  for (unsigned index = 0; index < kBars; ++index)
    if (function.bar(index).kind != PciBar::Kind::None) text += bar_line(function, index);
  return text;
}

}  // namespace

std::string PciBus::describe() const {
  Lock lock(mutex_);
  std::string text;
  for (u8 slot = 0; slot < kSlots; ++slot)
    for (u8 number = 0; number < kFunctions; ++number)
      if (const PciFunction* function = functions_[slot][number]) text += function_text(slot, number, *function);
  return text;
}

}  // namespace atl::devices
