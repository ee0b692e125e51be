// PUSHF, POPF, CLI, STI, CLAC and STAC (SDM vol. 2). Without VME and PVI, which CPUID does not offer.
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/debug.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/stack.h"

namespace atl::soft {
namespace {

/// CLI and STI: CPL must be within IOPL, which in virtual-8086 mode means IOPL 3.
bool may_change_if(Core& core) { return core.cpl <= iopl(core) || core.raise(kGP, 0); }
/// PUSHF and POPF are sensitive to IOPL in virtual-8086 mode only.
bool may_move_flags(Core& core) { return !v86_mode(core) || iopl(core) == 3 || core.raise(kGP, 0); }

/// The decoder knows whether the instruction exists.
bool set_ac(Core& core, bool on) {
  if (core.cpl != 0) return core.raise(kUD);
  core.other_flags = on ? core.other_flags | kAC : core.other_flags & ~u64{kAC};
  update_access_set(core);
  return true;
}

}  // namespace

bool sys_pushf(Core& core, const Op& op) {
  if (!may_move_flags(core)) return false;
  StackCursor stack(core);
  if (!stack.push(core.rflags() & ~u64{kVM | kRF}, op.opsize)) return false;
  stack.commit();
  return true;
}

bool sys_popf(Core& core, const Op& op) {
  if (!may_move_flags(core)) return false;
  StackCursor stack(core);
  u64 value = 0;
  if (!stack.pop(value, op.opsize)) return false;
  stack.commit();
  set_flags(core, merge_flags(core, value, op.opsize, false));
  return true;
}

bool sys_cli(Core& core, const Op&) {
  if (!may_change_if(core)) return false;
  core.other_flags &= ~u64{kIF};
  return true;
}

bool sys_sti(Core& core, const Op&) {
  if (!may_change_if(core)) return false;
  if (core.other_flags & kIF) return true;
  core.other_flags |= kIF;
  core.shadow_rip = core.next_rip;
  attend_enabled_interrupts(core);
  return true;
}

bool sys_clac(Core& core, const Op&) { return set_ac(core, false); }
bool sys_stac(Core& core, const Op&) { return set_ac(core, true); }

}  // namespace atl::soft
