// Memory for system management mode, as host bridges of PCs set it aside (82441FX section 3.2.19, SMRAM; 82Q35 section 5.1.29, ESMRAMC):
// the 128 KiB of RAM behind the VGA window, and TSEG, the last megabytes of RAM below 4 GiB, which others then do not see.
// Missing: the window's second place at 0xfeda0000 (H_SMRAME), caching control (D_CLS).
//
// Threads: under the PCI bus's lock.
#pragma once

#include <vector>

#include "memory/address_space.h"

namespace atl::devices {

class Smram {
 public:
  struct Settings {
    bool enabled = false;  // G_SMRAME: system management mode sees the RAM
    bool open = false;     // D_OPEN: everybody sees it
    u64 tseg_bytes = 0;
    bool operator==(const Settings&) const = default;
  };

  /// The RAM that is at address 0; `low_bytes` of it are below 4 GiB.
  Smram(memory::AddressSpace& memory, u64 low_bytes);
  ~Smram();
  void apply(const Settings& settings);

 private:
  struct Hidden final : memory::BusDevice {
    u64 bus_read(u64, unsigned) override { return ~u64{0}; }
    void bus_write(u64, u64, unsigned) override {}
  };
  void map(memory::Region region);
  void unmap();

  memory::AddressSpace& memory_;
  const u64 low_bytes_;
  const std::shared_ptr<memory::RamBlock> ram_;
  Hidden hidden_;
  Settings settings_;
  std::vector<memory::RegionId> regions_;
};

}  // namespace atl::devices
