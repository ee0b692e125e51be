// Core::jump_cache: where translated code finds the code of an address without asking.
//
// A table for each Mode. Entries depend on the mapping of the page and on the translation; both ways of going out of date end
// in one of the functions below. Own thread.
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft::translate {

/// Makes the tables of `mode` and of the modes that differ from it in the TLB set usable: CLAC and STAC lead from one to another.
void set_up_jumps(Core& core, Mode mode);
inline JumpEntry& jump_entry(Core& core, Mode mode, u64 rip) { return core.jump_cache[mode][jump_index(rip)]; }
/// The table is set up. `global`: the page's mapping outlives CR3 writes.
void add_jump(Core& core, Mode mode, u64 rip, const void* code, bool global);

/// For flush_tlb(): forgets what depends on mappings that a CR3 write drops, or everything.
void flush_jumps(Core& core, bool keep_global);
/// For flush_tlb_page(): forgets the page's entries; `page_shift` if it may be a large page.
void flush_jumps_of_page(Core& core, u64 linear, unsigned page_shift);

}  // namespace atl::soft::translate
