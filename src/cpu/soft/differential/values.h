// Values that instructions are sensitive to: limits, signs, special floating-point numbers.
#pragma once

#include <span>

#include "cpu/soft/differential/case.h"
#include "cpu/soft/differential/random.h"

namespace atl::soft::differential {

u64 random_integer(Random& random);
/// Eight bytes of integers or of one double or two single precision numbers.
u64 random_lanes(Random& random);
void fill_random(Random& random, std::span<u8> bytes);
/// General registers, flags, x87, SSE and AVX state.
void fill_registers(Random& random, Registers& registers);

}  // namespace atl::soft::differential
