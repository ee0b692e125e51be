// Segment registers as operands, and questions about selectors (SDM vol. 2, MOV, PUSH, POP, LDS, LAR, LSL, VERR, ARPL,
// SWAPGS, RDFSBASE).
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/debug.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/operand.h"
#include "cpu/soft/system/segments.h"
#include "cpu/soft/system/stack.h"

namespace atl::soft {
namespace {

SegReg segment_of(const Op& op) { return static_cast<SegReg>(op.extra); }

/// Loads of SS hold interrupts back for one instruction.
bool load_with_shadow(Core& core, SegReg reg, u64 selector) {
  if (!load_segment(core, reg, static_cast<u16>(selector))) return false;
  if (reg == kSs) {
    core.interrupt_shadow = true;
    attend_stepping(core);
  }
  return true;
}

/// The descriptor behind a selector operand if LAR and its relatives may look at it; `found` is the answer for ZF.
/// False after a page fault.
bool look_up(Core& core, u16 selector, Descriptor& out, bool& found) {
  found = false;
  if (null_selector(selector) || !selector_in_table(core, selector, 8)) return true;
  if (!read_descriptor(core, selector, kGP, out)) return false;
  const u8 needed = std::max<u8>(core.cpl, selector & 3);
  found = out.conforming() || out.dpl() >= needed;
  return true;
}

/// System types that LAR and LSL accept, as bit sets: outside and in IA-32e mode.
constexpr u16 kLarTypes = 0x1a3e, kLarTypesLong = 0x1a04, kLslTypes = 0x0a0e, kLslTypesLong = 0x0a04;

bool query(Core& core, const Op& op, u16 types, Descriptor& descriptor, u16& selector, bool& found) {
  if (!selector_mode(core)) return core.raise(kUD);
  u64 value = 0;
  if (!read_operand(core, op, op.src, 2, value)) return false;
  selector = static_cast<u16>(value);
  if (!look_up(core, selector, descriptor, found)) return false;
  if (found && !descriptor.s()) found = types >> descriptor.type() & 1;
  set_zero_flag(core, found);
  return true;
}

bool verify(Core& core, const Op& op, bool write) {
  if (!selector_mode(core)) return core.raise(kUD);
  u64 selector = 0;
  Descriptor descriptor;
  bool found = false;
  if (!read_operand(core, op, op.dst, 2, selector)) return false;
  if (!look_up(core, static_cast<u16>(selector), descriptor, found)) return false;
  set_zero_flag(core, found && descriptor.s() && (write ? descriptor.writable() : descriptor.readable()));
  return true;
}

bool base_instruction_allowed(Core& core) {
  return (code64(core) && (core.cr4 & kCr4FSGSBASE)) || core.raise(kUD);
}

bool read_base(Core& core, const Op& op, SegReg reg) {
  if (!base_instruction_allowed(core)) return false;
  write_register(core, op.dst, op.opsize, core.seg[reg].base);
  return true;
}

bool write_base(Core& core, const Op& op, SegReg reg) {
  if (!base_instruction_allowed(core)) return false;
  u64 base = op.opsize == 4 ? core.gpr[op.src] & 0xffffffff : core.gpr[op.src];
  if (!is_canonical(base)) return core.raise(kGP, 0);
  core.seg[reg].base = base;
  return true;
}

}  // namespace

bool sys_mov_to_sreg(Core& core, const Op& op) {
  if (segment_of(op) == kCs || segment_of(op) >= kSegCount) return core.raise(kUD);
  u64 selector = 0;
  return read_operand(core, op, op.src, 2, selector) && load_with_shadow(core, segment_of(op), selector);
}

bool sys_mov_from_sreg(Core& core, const Op& op) {
  if (segment_of(op) >= kSegCount) return core.raise(kUD);
  return write_operand(core, op, op.dst, op.dst == kNoReg ? 2 : op.opsize, core.seg[segment_of(op)].selector);
}

bool sys_push_sreg(Core& core, const Op& op) {
  StackCursor stack(core);
  if (!stack.push(core.seg[segment_of(op)].selector, op.opsize)) return false;
  stack.commit();
  return true;
}

bool sys_pop_sreg(Core& core, const Op& op) {
  StackCursor stack(core);
  u64 selector = 0;
  if (!stack.pop(selector, op.opsize)) return false;
  // ESP's width is the old stack's, so it moves before SS changes; a fault leaves it alone.
  const u64 old_rsp = core.gpr[kRsp];
  stack.commit();
  if (load_with_shadow(core, segment_of(op), selector)) return true;
  core.gpr[kRsp] = old_rsp;
  return false;
}

bool sys_load_far_pointer(Core& core, const Op& op) {
  u64 linear = 0, selector_linear = 0, offset = 0;
  u16 selector = 0;
  if (!operand_linear(core, op, op.opsize, false, linear)) return false;
  if (!operand_linear(core, op, 2, false, selector_linear, op.opsize)) return false;
  if (!read_slow(core, linear, &offset, op.opsize) || !read_mem(core, selector_linear, selector)) return false;
  if (!load_segment(core, segment_of(op), selector)) return false;
  write_register(core, op.dst, op.opsize, offset);
  return true;
}

bool sys_lar(Core& core, const Op& op) {
  Descriptor descriptor;
  u16 selector = 0;
  bool found = false;
  if (!query(core, op, core.long_mode ? kLarTypesLong : kLarTypes, descriptor, selector, found)) return false;
  if (found) write_register(core, op.dst, op.opsize, descriptor.raw >> 32 & (op.opsize == 2 ? 0xff00 : 0xffff00));
  return true;
}

bool sys_lsl(Core& core, const Op& op) {
  Descriptor descriptor;
  u16 selector = 0;
  bool found = false;
  if (!query(core, op, core.long_mode ? kLslTypesLong : kLslTypes, descriptor, selector, found)) return false;
  if (found) write_register(core, op.dst, op.opsize, make_segment(selector, descriptor).limit);
  return true;
}

bool sys_verr(Core& core, const Op& op) { return verify(core, op, false); }
bool sys_verw(Core& core, const Op& op) { return verify(core, op, true); }

bool sys_arpl(Core& core, const Op& op) {
  if (!selector_mode(core)) return core.raise(kUD);
  u64 selector = 0;
  if (!read_operand(core, op, op.dst, 2, selector)) return false;
  const u64 wanted = core.gpr[op.src] & 3;
  const bool raises = (selector & 3) < wanted;
  if (raises && !write_operand(core, op, op.dst, 2, (selector & ~u64{3}) | wanted)) return false;
  set_zero_flag(core, raises);
  return true;
}

bool sys_rdfsbase(Core& core, const Op& op) { return read_base(core, op, kFs); }
bool sys_rdgsbase(Core& core, const Op& op) { return read_base(core, op, kGs); }
bool sys_wrfsbase(Core& core, const Op& op) { return write_base(core, op, kFs); }
bool sys_wrgsbase(Core& core, const Op& op) { return write_base(core, op, kGs); }

bool sys_swapgs(Core& core, const Op&) {
  if (!code64(core)) return core.raise(kUD);
  if (!require_cpl0(core)) return false;
  std::swap(core.seg[kGs].base, core.msr.kernel_gs_base);
  return true;
}

}  // namespace atl::soft
