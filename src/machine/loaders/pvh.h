// Start information of the x86/HVM direct boot ABI, "PVH" (Xen public headers, hvm/start_info.h, version 1).
#pragma once

#include "machine/loaders/kernel.h"

namespace atl::machine {

struct PvhModule {
  GuestAddr base = 0;
  u64 size = 0;  // 0: none
};

/// Writes hvm_start_info, the module list and the memory map at kBootInfo. The command line is already in place.
Status write_pvh_info(const DirectBoot& boot, const BootTarget& target, const PvhModule& initrd);

}  // namespace atl::machine
