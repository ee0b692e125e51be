// System management mode (AMD APM vol. 2, chapter 10; SDM vol. 3, chapter 32): another address space, and a state save area in it.
//
// Supported: SMI by IPI and from the chip set, the save area in AMD's 64-bit layout (revision 0x20064, whatever CPUID's vendor), SMBASE
// relocation, halt restart, blocked SMI, NMI and INIT. Missing: I/O restart, SMM_LOCK and SMRR, CS:EIP checks of VMX.
// Own thread.
#pragma once

#include "base/result.h"
#include "cpu/soft/core.h"

namespace atl::soft {

/// Makes the core see memory as system management mode does, or as others do. Does not touch the TLB.
void set_smm_view(Core& core, bool smm);
/// Between two instructions, not in system management mode. Afterwards the handler at SMBASE + 0x8000 runs.
void enter_smm(Core& core);

}  // namespace atl::soft
