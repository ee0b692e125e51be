// Debug exceptions: single step, breakpoint registers, RF (SDM vol. 3, chapter 18).
//
// The run loop goes instruction by instruction while needs_stepping() holds, with before_instruction() and
// after_instruction() around each. Data breakpoints work in both ways of running: the MMU keeps their pages off its fast
// path, notes hits in core.debug_hits and sets core.leave_block; after_instruction() then reports them.
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft {

bool has_instruction_breakpoint(const Core& core);
/// TF, an interrupt shadow or an enabled instruction breakpoint. The run loop drops kAttendMode once this is false.
bool needs_stepping(const Core& core);
/// Sets kAttendMode if needs_stepping(). After anything that changed flags, DR7 or the shadow.
void attend_stepping(Core& core);

/// False after raising the #DB of an instruction breakpoint at core.rip.
bool before_instruction(Core& core);
/// In core.debug_hits, for instructions that enter a handler with TF cleared (INT n, SYSCALL): they end without a single
/// step trap. Only with TF set.
inline constexpr u64 kSuppressStep = u64{1} << 63;
inline void suppress_step(Core& core) {
  if (core.other_flags & kTF) core.debug_hits |= kSuppressStep;
}

/// DR6.BS: a single step. In core.debug_hits, for SYSRET that loads TF: it ends with a step.
inline constexpr u64 kDr6Bs = 1 << 14;
inline constexpr u64 kDr6Breakpoints = 15;

/// What to remember from before the instruction.
struct StepState {
  bool trap_flag = false;
  bool resume_flag = false;
  bool shadow = false;
};
StepState step_state(const Core& core);
/// Call when an instruction completed and core.rip is past it: ends the interrupt shadow and RF that were there before,
/// and raises #DB (a trap) for a single step or data breakpoint. False after raising; then deliver_exception().
bool after_instruction(Core& core, const StepState& before);

/// Whether a write or read of these linear bytes meets an enabled data breakpoint: its bits of DR6, and kDebuggerWatch with
/// the number of the point for one of the debugger's. For the MMU.
u64 data_breakpoints(const Core& core, u64 linear, unsigned size, bool write);
/// Whether the page holds an enabled data breakpoint.
bool page_has_data_breakpoint(const Core& core, u64 linear);

// The debugger's own points (Core::debugger) never show in the guest's registers.
inline constexpr u64 kDebuggerWatch = u64{1} << 62;
inline constexpr unsigned kDebuggerPointShift = 32;
/// Whether an execution point lies at this linear address; nullptr if not.
const DebugRequest::Point* execution_point(const Core& core, u64 linear);
/// Whether one may lie at this place in a page, whatever the page's address.
bool may_hold_execution_point(const Core& core, u64 offset_in_page);
/// Notes that the vCPU is about to execute at an execution point. False: it is not.
bool stop_at_execution_point(Core& core);

}  // namespace atl::soft
