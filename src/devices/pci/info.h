// What monitors show of a PCI bus: its functions, and those behind its bridges.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/types.h"

namespace atl::devices {

class PciFunction;

struct PciFunctionInfo {
  const PciFunction* function = nullptr;  // to be compared with, not looked into
  std::string id;                         // of the device that brought it; "" = none, or a part of the board
  u8 bus = 0, slot = 0, number = 0;
  u16 vendor = 0, device = 0, subsystem_vendor = 0, subsystem = 0;
  u16 class_code = 0;                     // base class and sub-class
  u8 interrupt_line = 0, interrupt_pin = 0;

  struct Region {
    unsigned bar = 0;                     // 6: the expansion ROM
    bool io = false, prefetchable = false, wide = false;
    u64 size = 0;
    std::optional<u64> address;           // where it answers now
  };
  std::vector<Region> regions;

  /// Stretches that a bridge lets through; first > last: none.
  struct Window {
    u64 first = 0, last = 0;
  };
  struct Bridge {
    u8 primary = 0, secondary = 0, subordinate = 0;
    Window io, memory, prefetchable;
    std::vector<PciFunctionInfo> behind;
  };
  std::optional<Bridge> bridge;
};

/// By base class and sub-class (PCI Code and ID Assignment Specification); "" for those that nobody asks for.
std::string_view pci_class_name(u16 class_code);

}  // namespace atl::devices
