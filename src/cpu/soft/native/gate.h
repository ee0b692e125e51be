// May SIMD or x87 instructions run now? (SDM vol. 2, tables 2-18 to 2-23; vol. 3, 2.5 and 13.1)
#pragma once

#include "cpu/soft/native/image.h"
#include "cpu/soft/native/stub.h"

namespace atl::soft {

/// All return false after raising #UD, #NM or #MF.
bool enter_sse(Core& core);
bool enter_vex(Core& core);
/// For AVX-512; notes that its state is in use.
bool enter_wide(Core& core);
/// For instructions that wait for x87 exceptions.
bool enter_x87(Core& core);
/// For FNSTCW and the like, which do not.
bool enter_x87_no_wait(Core& core);
bool enter_mmx(Core& core);
bool enter_gate(Core& core, Gate gate);

/// An unmasked x87 exception waits: #MF, or with CR0.NE clear IRQ 13 as on a PC, with IGNNE# answered at once (true then).
bool check_x87_pending(Core& core);
/// The x87 state as MMX instructions find and leave it: top of stack 0, every register valid.
void become_mmx(Core& core);

}  // namespace atl::soft
