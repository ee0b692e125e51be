// Instructions that user code may execute but whose results are the host's where the guest's are others, and that nothing makes trap:
// CPUID and the like. Pages that hold one are left to the translator. A matter of fidelity, not of safety.
#pragma once

#include <span>

#include "base/types.h"

namespace atl::soft::direct {

/// False if an instruction stream through these bytes of a page may meet such an instruction.
bool fit_for_host(std::span<const u8> page);

}  // namespace atl::soft::direct
