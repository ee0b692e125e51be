#include "cpu/soft/system/far_return.h"

#include "cpu/soft/exec/address.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/stack.h"

namespace atl::soft {

bool check_code_offset(Core& core, const Descriptor& code, u64 rip) {
  bool inside = core.long_mode && code.l() ? is_canonical(rip) : rip <= make_segment(0, code).limit;
  return inside || core.raise(kGP, 0);
}

bool check_return_code(Core& core, ReturnTarget& out) {
  const u32 error = selector_error(out.selector);
  if (null_selector(out.selector)) return core.raise(kGP, 0);
  if (!read_descriptor(core, out.selector, kGP, out.code)) return false;
  const u8 rpl = out.cpl();
  bool fits = out.code.conforming() ? out.code.dpl() <= rpl : out.code.dpl() == rpl;
  bool both_sizes = core.long_mode && out.code.l() && out.code.db();
  if (!out.code.code() || rpl < core.cpl || !fits || both_sizes) return core.raise(kGP, error);
  if (!out.code.present()) return core.raise(kNP, error);
  return check_code_offset(core, out.code, out.rip) && set_accessed(core, out.code);
}

bool check_return_stack(Core& core, u16 selector, const ReturnTarget& target, Segment& out) {
  const u8 cpl = target.cpl();
  if (null_selector(selector)) {
    out = null_segment(selector, cpl);
    bool allowed = core.long_mode && target.code.l() && cpl != 3 && (selector & 3) == cpl;
    return allowed || core.raise(kGP, 0);
  }
  Descriptor descriptor;
  if (!read_descriptor(core, selector, kGP, descriptor)) return false;
  if (!check_stack_descriptor(core, selector, descriptor, cpl, kGP) || !set_accessed(core, descriptor)) return false;
  out = make_segment(selector, descriptor);
  return true;
}

void finish_return(Core& core, const ReturnTarget& target) {
  if (target.cpl() > core.cpl) drop_inner_segments(core, target.cpl());
  core.seg[kCs] = make_segment(target.selector, target.code);
  core.next_rip = target.rip;
  update_mode(core);
}

void drop_inner_segments(Core& core, u8 cpl) {
  for (SegReg reg : {kEs, kDs, kFs, kGs}) {
    const Segment& segment = core.seg[reg];
    bool conforming = (segment.type() & 12) == 12;
    bool null = null_selector(segment.selector);
    if (segment.selector == 0 && segment.unusable && core.long_mode) continue;
    if (!segment.unusable && !null && (conforming || segment.dpl() >= cpl)) continue;
    // Bases of FS and GS outlive their selectors in 64-bit mode.
    u64 base = core.long_mode ? segment.base : 0;
    core.seg[reg] = null_segment(0);
    core.seg[reg].base = base;
  }
}

void set_return_stack(Core& core, const Segment& ss, u64 sp, bool long_target) {
  core.seg[kSs] = ss;
  const u64 mask = stack_mask(ss, long_target);
  u64& rsp = core.gpr[kRsp];
  rsp = mask == 0xffff ? (rsp & ~mask) | (sp & mask) : sp & mask;
}

}  // namespace atl::soft
