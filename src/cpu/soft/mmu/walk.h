// Walks of the guest's paging structures (SDM vol. 3, chapter 5).
//
// Supported: no paging, 2-level with PSE and PSE-36, 3-level PAE, 4-level with 2 MiB and 1 GiB pages; accessed and dirty
// flags set atomically; NX, WP, SMEP, SMAP, reserved bits. Missing: 5-level paging, protection keys, and paging structures
// outside RAM, which read as all ones.
#pragma once

#include "cpu/soft/core.h"
#include "cpu/soft/mmu/access.h"

namespace atl::soft {

/// Whether `set` may access a page so translated.
bool access_allowed(const Core& core, const PageMapping& page, TlbSet set, Access access);

struct WalkOptions {
  TlbSet set = kSupervisorSet;
  Access access = Access::Read;
  bool probe = false;  // no rights checked, no flag set: for the debugger
};

/// False with `error` = the #PF code. Raises nothing. Starts at what `cache` knows and enters what it finds, unless nullptr.
bool walk(const Core& core, PhysicalMemory& memory, WalkCache* cache, u64 linear, const WalkOptions& options, PageMapping& out,
          u32& error);

/// Loads the PDPTE registers that CR3 `cr3` points to, as PAE paging requires; false if a reserved bit is set, and
/// nothing has changed then.
bool load_pdptes(Core& core, u64 cr3);

}  // namespace atl::soft
