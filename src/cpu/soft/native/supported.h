// What the software CPU can offer to a guest: x86-64-v4 and some more, as far as this host has the instructions.
#pragma once

#include "cpu/cpuid.h"

namespace atl::soft {

/// The TSC of every VM counts nanoseconds.
inline constexpr u32 kTscKhz = 1'000'000;

/// Whether this host, processor and kernel, has AVX-512 with what all processors but the first have: F, BW, CD, DQ and VL.
bool host_has_avx512();

/// Leaf values for CpuidLimits. Missing on purpose: AMX, MPX, CET, protection keys, TSX, nesting, MONITOR,
/// VME, performance counters.
cpu::CpuidTable soft_supported_cpuid();

}  // namespace atl::soft
