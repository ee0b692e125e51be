// Between walk and access: entering a translation into the TLB.
#pragma once

#include "cpu/soft/mmu/walk.h"

namespace atl::soft {

/// Enters the 4 KiB page at `linear`, with the tags that `set` has a right to. `window` is the RAM behind the page; nothing
/// happens without.
void fill_tlb(Core& core, TlbSet set, u64 linear, const PageMapping& page, const PhysicalMemory::Window* window);
/// The same for instruction fetches, which have been checked.
void fill_fetch(Core& core, bool user, u64 linear, const PageMapping& page, const PhysicalMemory::Window* window);

}  // namespace atl::soft
