// MOV to and from debug registers (SDM vol. 2, MOV DR; vol. 3, section 18.2).
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/debug.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/operand.h"

namespace atl::soft {
namespace {

constexpr u64 kDr6Bd = 1 << 13, kDr7Gd = 1 << 13;

/// #UD for DR4 and DR5 under CR4.DE and for DR8 up, #GP(0) above CPL 0, #DB while DR7.GD guards the registers.
bool may_access(Core& core, unsigned number) {
  if (number > 7 || ((number == 4 || number == 5) && (core.cr4 & kCr4DE))) return core.raise(kUD);
  if (!require_cpl0(core)) return false;
  if (!(core.dr7 & kDr7Gd)) return true;
  core.raise(kDB);
  core.fault.dr6 = kDr6Bd;
  return false;
}

void write_dr7(Core& core, u64 value) {
  core.dr7 = (value & 0xffff2bff) | 0x400;
  flush_tlb(core, false);  // pages with data breakpoints must leave the fast path
  attend_stepping(core);
}

}  // namespace

bool sys_mov_to_dr(Core& core, const Op& op) {
  const unsigned number = op.extra;
  if (!may_access(core, number)) return false;
  const u64 value = code64(core) ? core.gpr[op.src] : core.gpr[op.src] & 0xffffffff;
  if (number >= 4 && value >> 32) return core.raise(kGP, 0);
  switch (number) {
    case 4: case 6: core.dr6 = (value & 0xe00f) | 0xffff0ff0; break;
    case 5: case 7: write_dr7(core, value); break;
    default:
      core.dr[number] = value;
      if (core.dr7 & 0xff) flush_tlb(core, false);
  }
  return true;
}

bool sys_mov_from_dr(Core& core, const Op& op) {
  const unsigned number = op.extra;
  if (!may_access(core, number)) return false;
  u64 value = number < 4 ? core.dr[number] : (number & 1) ? core.dr7 : core.dr6;
  write_register(core, op.dst, code64(core) ? 8 : 4, value);
  return true;
}

}  // namespace atl::soft
