// What the software CPU can offer to a guest: x86-64-v3 and some more, as far as this host has the instructions.
#pragma once

#include "cpu/cpuid.h"

namespace atl::soft {

/// The TSC of every VM counts nanoseconds.
inline constexpr u32 kTscKhz = 1'000'000;

/// Leaf values for CpuidLimits. Missing on purpose: AVX-512, AMX, MPX, CET, protection keys, TSX, nesting, MONITOR,
/// VME, performance counters.
cpu::CpuidTable soft_supported_cpuid();

}  // namespace atl::soft
