// Hardware task switches with 32-bit and 16-bit TSSs (SDM vol. 3, chapter 9), and the stacks that a TSS names.
#pragma once

#include "cpu/soft/core.h"
#include "cpu/soft/system/segments.h"

namespace atl::soft {

enum class TaskSwitch : u8 { Jump, Call /* and interrupts through task gates */, Return };

/// Switches to the task of TSS `selector`. `return_rip` is saved as the old task's RIP. core.rip and core.next_rip become the new
/// task's. A fault met before the switch leaves the core unchanged; one met in it belongs to the new task.
bool switch_task(Core& core, u16 selector, TaskSwitch how, u64 return_rip);

/// SSn and ESPn (SPn) of the current TSS for code that enters privilege `level`; #TS if they lie outside it.
bool tss_stack(Core& core, u8 level, u16& ss, u64& sp);
/// RSPn or ISTn of the 64-bit TSS: `slot` 0 to 2 for RSPn, 4 to 10 for IST1 to IST7 (as they lie from offset 4, in 8 bytes).
bool tss64_stack(Core& core, unsigned slot, u64& sp);

}  // namespace atl::soft
