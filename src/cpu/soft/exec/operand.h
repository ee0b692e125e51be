// Operands by run-time size, for the functions of misc.h: slower than handlers, but one function serves every size and mode.
#pragma once

#include "cpu/soft/exec/handler.h"

namespace atl::soft {

/// The r/m operand of `size` bytes (2 to 8, or 1 from memory): register `number`, or memory if that is kNoReg.
inline Loaded read_rm(Core& core, const Op& op, u8 number, unsigned size) {
  if (number != kNoReg) return {core.gpr[number], true};
  Loaded address = general_linear(core, &op, size, false);
  if (!address.ok) return address;
  return load_slow(core, address.value, op.seg, size);
}

/// A repeated instruction stops after so many elements or pages in any case: a single step must not take for ever.
inline constexpr unsigned kMostTurns = 4096;

/// Whether a repeated instruction must stop after the element it just did: something waits that the run loop must see, a
/// single step, a data breakpoint, or a store to code.
inline bool must_pause(const Core& core) {
  u32 urgent = core.attention.load(std::memory_order_relaxed) & ~u32{kAttendMode};
  return urgent || core.leave_block || (core.other_flags & kTF);
}

}  // namespace atl::soft
