#include "cpu/soft/system/debug.h"

namespace atl::soft {
namespace {

constexpr u64 kDr6Bs = 1 << 14;
enum class BreakOn : u8 { Execute, Write, Io, Access };

bool enabled(const Core& core, unsigned number) { return core.dr7 >> number * 2 & 3; }
BreakOn break_on(const Core& core, unsigned number) { return static_cast<BreakOn>(core.dr7 >> (16 + number * 4) & 3); }
/// LEN: 00 one byte, 01 two, 10 eight, 11 four.
u64 length(const Core& core, unsigned number) {
  constexpr u8 kLengths[] = {1, 2, 8, 4};
  return kLengths[core.dr7 >> (18 + number * 4) & 3];
}

bool is_data(BreakOn kind) { return kind == BreakOn::Write || kind == BreakOn::Access; }

/// Breakpoints are aligned to their length whatever the low bits say.
u64 start(const Core& core, unsigned number) { return core.dr[number] & ~(length(core, number) - 1); }

bool has_instruction_breakpoint(const Core& core) {
  if (!(core.dr7 & 0xff)) return false;
  for (unsigned i = 0; i < 4; ++i)
    if (enabled(core, i) && break_on(core, i) == BreakOn::Execute) return true;
  return false;
}

bool raise_debug(Core& core, u64 dr6, bool trap) {
  core.raise(kDB);
  core.fault.dr6 = dr6;
  core.fault.trap = trap;
  return false;
}

}  // namespace

bool needs_stepping(const Core& core) {
  return (core.other_flags & (kTF | kRF)) || core.interrupt_shadow || has_instruction_breakpoint(core);
}

void attend_stepping(Core& core) {
  if (needs_stepping(core)) core.attention.fetch_or(kAttendMode, std::memory_order_relaxed);
}

bool before_instruction(Core& core) {
  if (!(core.dr7 & 0xff) || (core.other_flags & kRF)) return true;
  u64 linear = core.code_size == CodeSize::k64 ? core.rip : static_cast<u32>(core.seg[kCs].base + core.rip);
  u64 hits = 0;
  for (unsigned i = 0; i < 4; ++i)
    if (enabled(core, i) && break_on(core, i) == BreakOn::Execute && core.dr[i] == linear) hits |= u64{1} << i;
  return !hits || raise_debug(core, hits, false);
}

StepState step_state(const Core& core) {
  return {(core.other_flags & kTF) != 0, (core.other_flags & kRF) != 0, core.interrupt_shadow};
}

bool after_instruction(Core& core, const StepState& before) {
  if (before.resume_flag) core.other_flags &= ~u64{kRF};
  if (before.shadow) core.interrupt_shadow = false;
  u64 dr6 = core.debug_hits & ~kSuppressStep;
  if (before.trap_flag && !(core.debug_hits & kSuppressStep)) dr6 |= kDr6Bs;
  core.debug_hits = 0;
  return !dr6 || raise_debug(core, dr6, true);
}

u64 data_breakpoints(const Core& core, u64 linear, unsigned size, bool write) {
  if (!(core.dr7 & 0xff)) return 0;
  u64 hits = 0;
  for (unsigned i = 0; i < 4; ++i) {
    BreakOn kind = break_on(core, i);
    if (!enabled(core, i) || !is_data(kind) || (kind == BreakOn::Write && !write)) continue;
    if (linear < start(core, i) + length(core, i) && start(core, i) < linear + size) hits |= u64{1} << i;
  }
  return hits;
}

bool page_has_data_breakpoint(const Core& core, u64 linear) {
  if (!(core.dr7 & 0xff)) return false;
  for (unsigned i = 0; i < 4; ++i)
    if (enabled(core, i) && is_data(break_on(core, i)) && (start(core, i) ^ linear) >> 12 == 0) return true;
  return false;
}

}  // namespace atl::soft
