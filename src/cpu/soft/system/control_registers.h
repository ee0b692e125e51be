// Writing control registers and EFER, with every check and side effect (SDM vol. 3, section 2.5; 5.1 for paging modes).
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft {

/// Each raises #GP(0) and changes nothing if the value is not allowed now.
bool write_cr0(Core& core, u64 value);
bool write_cr3(Core& core, u64 value);
bool write_cr4(Core& core, u64 value);
/// False without raising, as MSRs do it.
bool write_efer(Core& core, u64 value);

/// CR4 bits that this processor has, by its CPUID.
u64 cr4_mask(const Core& core);
/// Whether components that need each other come together.
bool consistent_xcr0(u64 value);
/// Whether `value` can stand in XCR0.
bool valid_xcr0(const Core& core, u64 value);

}  // namespace atl::soft
