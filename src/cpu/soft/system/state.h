// Power-on, INIT and SIPI, and the exchange of a core's state with the accelerator-independent form.
#pragma once

#include "base/result.h"
#include "cpu/soft/core.h"

namespace atl::soft {

/// Power-on or RESET: all registers, the TLB and pending events. The local APIC is reset by its owner.
void reset_core(Core& core, bool bootstrap);
/// INIT (SDM vol. 3, table 10-1): keeps x87, SSE, MSRs, CR0.CD and CR0.NW. The bootstrap processor (by APIC_BASE.BSP, here
/// core.index == 0) starts again at the reset vector, the others wait for SIPI.
void init_core(Core& core);
/// A waiting core starts in real mode at vector << 12; any other state ignores SIPI.
void start_sipi(Core& core, u8 vector);

/// The registers that have names of their own, without events, MSRs, APIC and vectors.
void export_registers(const Core& core, VcpuState& state);
/// Puts such registers back; events that a single instruction leaves are gone. Refuses as import_state().
Status import_registers_checked(Core& core, const VcpuState& state);

void export_state(const Core& core, VcpuState& state);
/// Refuses, naming the register, what the processor could never hold; the core must not run then.
Status import_state(Core& core, const VcpuState& state);

}  // namespace atl::soft
