#include "cpu/soft/system/debug.h"

namespace atl::soft {
namespace {

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

bool watches(const DebugRequest::Point& point, bool write) {
  using Kind = DebugRequest::Point::Kind;
  return point.kind == Kind::Access || (point.kind == Kind::Write && write);
}

bool watches_data(const DebugRequest::Point& point) { return point.kind != DebugRequest::Point::Kind::Execute; }

u64 debugger_watchpoints(const Core& core, u64 linear, unsigned size, bool write) {
  const auto& points = core.debugger.points;
  if (core.debug_hits & kDebuggerWatch) return 0;  // one is told for each instruction
  for (size_t i = 0; i < points.size(); ++i) {
    const bool overlaps = linear < points[i].address + points[i].length && points[i].address < linear + size;
    if (overlaps && watches(points[i], write)) return kDebuggerWatch | u64{i} << kDebuggerPointShift;
  }
  return 0;
}

void note_debugger_hit(Core& core) {
  const u64 number = (core.debug_hits & ~(kSuppressStep | kDebuggerWatch)) >> kDebuggerPointShift;
  if (number < core.debugger.points.size()) core.debugger_hit = core.debugger.points[number];
}

u64 linear_rip(const Core& core) {
  return core.code_size == CodeSize::k64 ? core.rip : static_cast<u32>(core.seg[kCs].base + core.rip);
}

bool raise_debug(Core& core, u64 dr6, bool trap) {
  core.raise(kDB);
  core.fault.dr6 = dr6;
  core.fault.trap = trap;
  return false;
}

}  // namespace

bool has_instruction_breakpoint(const Core& core) {
  if (!(core.dr7 & 0xff)) return false;
  for (unsigned i = 0; i < 4; ++i)
    if (enabled(core, i) && break_on(core, i) == BreakOn::Execute) return true;
  return false;
}

bool needs_stepping(const Core& core) {
  return (core.other_flags & kTF) || core.interrupt_shadow || has_instruction_breakpoint(core);
}

void attend_stepping(Core& core) {
  if (needs_stepping(core)) core.attention.fetch_or(kAttendMode, std::memory_order_relaxed);
}

bool before_instruction(Core& core) {
  if (!(core.dr7 & 0xff) || (core.other_flags & kRF)) return true;
  u64 linear = linear_rip(core);
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
  const bool mov_ss = core.interrupt_shadow && !before.shadow;
  if (before.shadow) core.interrupt_shadow = false;
  if (core.debug_hits & kDebuggerWatch) note_debugger_hit(core);
  // MOV SS and POP SS hold data breakpoints back until the next instruction and take no step (SDM vol. 3, section 7.8.3).
  if (mov_ss) {
    core.debug_hits &= kDr6Breakpoints;
    return true;
  }
  u64 dr6 = static_cast<u32>(core.debug_hits);
  if (before.trap_flag && !(core.debug_hits & kSuppressStep)) dr6 |= kDr6Bs;
  core.debug_hits = 0;
  return !dr6 || raise_debug(core, dr6, true);
}

u64 data_breakpoints(const Core& core, u64 linear, unsigned size, bool write) {
  u64 hits = debugger_watchpoints(core, linear, size, write);
  if (!(core.dr7 & 0xff)) return hits;
  for (unsigned i = 0; i < 4; ++i) {
    BreakOn kind = break_on(core, i);
    if (!enabled(core, i) || !is_data(kind) || (kind == BreakOn::Write && !write)) continue;
    if (linear < start(core, i) + length(core, i) && start(core, i) < linear + size) hits |= u64{1} << i;
  }
  return hits;
}

bool page_has_data_breakpoint(const Core& core, u64 linear) {
  for (const auto& point : core.debugger.points) {
    const bool in_page = ((point.address ^ linear) >> 12) == 0 || ((point.address + point.length - 1) ^ linear) >> 12 == 0;
    if (in_page && watches_data(point)) return true;
  }
  if (!(core.dr7 & 0xff)) return false;
  for (unsigned i = 0; i < 4; ++i)
    if (enabled(core, i) && is_data(break_on(core, i)) && (start(core, i) ^ linear) >> 12 == 0) return true;
  return false;
}

const DebugRequest::Point* execution_point(const Core& core, u64 linear) {
  for (const auto& point : core.debugger.points)
    if (!watches_data(point) && point.address == linear) return &point;
  return nullptr;
}

bool may_hold_execution_point(const Core& core, u64 offset_in_page) {
  for (const auto& point : core.debugger.points)
    if (!watches_data(point) && (point.address & 0xfff) == offset_in_page) return true;
  return false;
}

bool stop_at_execution_point(Core& core) {
  const auto* point = execution_point(core, linear_rip(core));
  if (!point) return false;
  core.debugger_hit = *point;
  return true;
}

}  // namespace atl::soft
