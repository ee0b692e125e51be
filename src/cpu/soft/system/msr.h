// Model-specific registers by number (SDM vol. 4; AMD APM vol. 2, appendix A).
//
// Supported: what firmware, Linux and memtest86+ read or write. Anything else raises #GP(0), as does a reserved bit.
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft {

/// False: the register does not exist (nothing is raised; RDMSR turns it into #GP(0)).
bool read_msr(const Core& core, u32 index, u64& value);
/// False: the register does not exist, is read-only, or refuses the value; nothing has changed then.
bool write_msr(Core& core, u32 index, u64 value);

/// The registers that saved state holds, in order; EFER, APIC_BASE and the segment bases have fields of their own.
MsrValues export_msrs(const Core& core);
/// Puts such a register back. Registers that export_msrs() does not know are left out, as another accelerator may have
/// more; false if a known one refuses its value.
bool import_msr(Core& core, u32 index, u64 value);

u64 read_tsc(const Core& core);
/// The same, and keeps what RDTSC in translated code needs up to date.
u64 read_tsc(Core& core);

}  // namespace atl::soft
