// SYSCALL, SYSRET, SYSENTER and SYSEXIT (SDM vol. 2; AMD APM vol. 3 for SYSCALL outside 64-bit mode).
#include "cpu/soft/exec/address.h"
#include "cpu/soft/system/debug.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/mode.h"

namespace atl::soft {
namespace {

/// CS and SS get fixed flat contents; no table is read.
Segment flat_code(u16 selector, u8 cpl, bool long_code) {
  u16 size = long_code ? 0xa000 : 0xc000;
  return {.selector = selector, .attributes = static_cast<u16>(size | 0x9b | cpl << 5), .limit = 0xffffffff};
}
Segment flat_stack(u16 selector, u8 cpl) {
  return {.selector = selector, .attributes = static_cast<u16>(0xc093 | cpl << 5), .limit = 0xffffffff};
}

void set_segments(Core& core, u16 cs, u16 ss, u8 cpl, bool long_code) {
  core.seg[kCs] = flat_code(static_cast<u16>((cs & ~3u) | cpl), cpl, long_code);
  core.seg[kSs] = flat_stack(static_cast<u16>((ss & ~3u) | cpl), cpl);
}

/// Intel processors have SYSCALL and SYSRET in 64-bit mode only.
bool is_amd(const Core& core) { return core.cpuid->query(0, 0).ebx == 0x68747541; }  // "Auth"

bool syscall_exists(const Core& core) {
  if (!(core.efer & kEferSCE) || real_mode(core)) return false;
  return code64(core) || is_amd(core);
}

}  // namespace

bool sys_syscall(Core& core, const Op&) {
  if (!syscall_exists(core)) return core.raise(kUD);
  const u16 selector = static_cast<u16>(core.msr.star >> 32);
  u64 flags = core.rflags() & ~u64{kRF};
  suppress_step(core);
  core.gpr[kRcx] = core.next_rip;
  if (core.long_mode) {
    core.gpr[kR11] = flags;
    core.next_rip = code64(core) ? core.msr.lstar : core.msr.cstar;
    flags &= ~core.msr.sfmask;
  } else {
    core.next_rip = core.msr.star & 0xffffffff;
    flags &= ~u64{kVM | kIF};
  }
  set_segments(core, selector, static_cast<u16>(selector + 8), 0, core.long_mode);
  set_flags(core, flags);
  update_mode(core);
  return true;
}

bool sys_sysret(Core& core, const Op& op) {
  if (!syscall_exists(core)) return core.raise(kUD);
  if (core.cpl != 0) return core.raise(kGP, 0);
  const bool long_target = op.opsize == 8;
  if (long_target && !is_canonical(core.gpr[kRcx])) return core.raise(kGP, 0);
  const u16 base = static_cast<u16>(core.msr.star >> 48);
  const bool from_long = core.long_mode;
  core.next_rip = long_target ? core.gpr[kRcx] : core.gpr[kRcx] & 0xffffffff;
  set_segments(core, static_cast<u16>(long_target ? base + 16 : base), static_cast<u16>(base + 8), 3, long_target);
  set_flags(core, from_long ? (core.gpr[kR11] & 0x3c7fd7) | 2 : core.rflags() | kIF);
  if (core.other_flags & kTF) core.debug_hits |= kDr6Bs;
  update_mode(core);
  return true;
}

bool sys_sysenter(Core& core, const Op&) {
  const u16 selector = static_cast<u16>(core.msr.sysenter_cs);
  if (real_mode(core) || (selector & 0xfffc) == 0) return core.raise(kGP, 0);
  const u64 mask = core.long_mode ? ~u64{0} : 0xffffffff;
  core.gpr[kRsp] = core.msr.sysenter_esp & mask;
  core.next_rip = core.msr.sysenter_eip & mask;
  set_segments(core, selector, static_cast<u16>(selector + 8), 0, core.long_mode);
  set_flags(core, core.rflags() & ~u64{kVM | kIF | kRF});
  update_mode(core);
  return true;
}

bool sys_sysexit(Core& core, const Op& op) {
  const u16 selector = static_cast<u16>(core.msr.sysenter_cs);
  if (real_mode(core) || core.cpl != 0 || (selector & 0xfffc) == 0) return core.raise(kGP, 0);
  const bool long_target = op.opsize == 8;
  u64 rip = core.gpr[kRdx], rsp = core.gpr[kRcx];
  if (long_target && (!is_canonical(rip) || !is_canonical(rsp))) return core.raise(kGP, 0);
  const u64 mask = long_target ? ~u64{0} : 0xffffffff;
  core.next_rip = rip & mask;
  core.gpr[kRsp] = rsp & mask;
  const unsigned offset = long_target ? 32 : 16;
  set_segments(core, static_cast<u16>(selector + offset), static_cast<u16>(selector + offset + 8), 3, long_target);
  update_mode(core);
  return true;
}

}  // namespace atl::soft
