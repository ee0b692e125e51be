// Far CALL, JMP and RET, with call gates, task gates and TSSs (SDM vol. 2; vol. 3, section 6.8).
#include "cpu/soft/exec/address.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/far_return.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/stack.h"
#include "cpu/soft/system/task_switch.h"

namespace atl::soft {
namespace {

/// One far CALL or JMP, as decoded.
struct Transfer {
  u16 selector = 0;
  u64 offset = 0;
  unsigned width = 4;  // of what a call pushes, bytes
  bool call = false;
};

bool push_return_address(Core& core, StackCursor& stack, unsigned width) {
  return stack.push(core.seg[kCs].selector, width) && stack.push(core.next_rip, width);
}

bool transfer_real(Core& core, const Transfer& t) {
  if (t.offset > core.seg[kCs].limit) return core.raise(kGP, 0);
  StackCursor stack(core);
  if (t.call && !push_return_address(core, stack, t.width)) return false;
  stack.commit();
  core.seg[kCs] = real_mode_segment(core, t.selector, core.seg[kCs]);
  core.next_rip = t.offset;
  update_mode(core);
  return true;
}

void enter_code(Core& core, u16 selector, const Descriptor& code, u8 cpl, u64 rip) {
  core.seg[kCs] = make_segment(static_cast<u16>((selector & ~3u) | cpl), code);
  core.next_rip = rip;
  update_mode(core);
}

bool check_code_size(Core& core, u16 selector, const Descriptor& code) {
  return !(core.long_mode && code.l() && code.db()) || core.raise(kGP, selector_error(selector));
}

bool transfer_to_code(Core& core, const Transfer& t, Descriptor& code) {
  const u8 rpl = t.selector & 3;
  bool fits = code.conforming() ? code.dpl() <= core.cpl : rpl <= core.cpl && code.dpl() == core.cpl;
  if (!fits) return core.raise(kGP, selector_error(t.selector));
  if (!code.present()) return core.raise(kNP, selector_error(t.selector));
  if (!check_code_size(core, t.selector, code)) return false;
  StackCursor stack(core);
  if (t.call && !push_return_address(core, stack, t.width)) return false;
  if (!check_code_offset(core, code, t.offset) || !set_accessed(core, code)) return false;
  stack.commit();
  enter_code(core, t.selector, code, core.cpl, t.offset);
  return true;
}

/// The code segment behind a call gate.
bool read_gate_target(Core& core, const Descriptor& gate, bool call, Descriptor& code) {
  const u16 selector = gate.gate_selector();
  if (null_selector(selector)) return core.raise(kGP, 0);
  if (!read_descriptor(core, selector, kGP, code)) return false;
  bool fits = code.code() && code.dpl() <= core.cpl && (call || code.conforming() || code.dpl() == core.cpl);
  bool wrong_size = core.long_mode && (!code.l() || code.db());
  if (!fits || wrong_size) return core.raise(kGP, selector_error(selector));
  return code.present() || core.raise(kNP, selector_error(selector));
}

/// Copies `count` parameters of the caller's stack, the last one pushed staying on top.
bool copy_parameters(StackCursor& from, StackCursor& to, unsigned count, unsigned width) {
  for (unsigned i = count; i > 0; --i) {
    u64 value = 0;
    if (!from.peek(u64{i - 1} * width, value, width) || !to.push(value, width)) return false;
  }
  return true;
}

/// A call through a gate into more privileged code, with a stack from the TSS.
bool call_inner(Core& core, const Descriptor& gate, Descriptor& code, u64 offset, unsigned width) {
  const u8 cpl = code.dpl();
  Segment ss = null_segment(cpl, cpl);
  u64 sp = 0;
  if (!(core.long_mode ? tss64_stack(core, cpl, sp) : inner_stack(core, cpl, ss, sp))) return false;
  StackCursor caller(core);
  StackCursor stack(core, ss, sp, cpl, core.long_mode);
  if (!stack.push(core.seg[kSs].selector, width) || !stack.push(core.gpr[kRsp], width)) return false;
  const unsigned parameters = core.long_mode ? 0 : gate.raw >> 32 & 31;
  if (!copy_parameters(caller, stack, parameters, width) || !push_return_address(core, stack, width)) return false;
  if (!check_code_offset(core, code, offset) || !set_accessed(core, code)) return false;
  core.seg[kSs] = ss;
  stack.commit();
  enter_code(core, gate.gate_selector(), code, cpl, offset);
  return true;
}

bool transfer_through_gate(Core& core, const Transfer& t, Descriptor& gate) {
  if (!read_upper_half(core, t.selector, kGP, gate)) return false;
  Descriptor code;
  if (!read_gate_target(core, gate, t.call, code)) return false;
  const unsigned width = core.long_mode ? 8 : gate.type() == kCallGate32 ? 4 : 2;
  const u64 offset = width == 2 ? gate.raw & 0xffff : gate.gate_offset();
  if (t.call && !code.conforming() && code.dpl() < core.cpl) return call_inner(core, gate, code, offset, width);
  StackCursor stack(core);
  if (t.call && !push_return_address(core, stack, width)) return false;
  if (!check_code_offset(core, code, offset) || !set_accessed(core, code)) return false;
  stack.commit();
  enter_code(core, gate.gate_selector(), code, core.cpl, offset);
  return true;
}

bool transfer_to_task(Core& core, const Transfer& t, const Descriptor& descriptor) {
  u16 tss = descriptor.type() == kTaskGate ? descriptor.gate_selector() : t.selector;
  return switch_task(core, tss, t.call ? TaskSwitch::Call : TaskSwitch::Jump, core.next_rip);
}

bool transfer_to_system(Core& core, const Transfer& t, Descriptor& descriptor) {
  const u8 type = descriptor.type();
  const bool gate = type == kCallGate32 || (type == kCallGate16 && !core.long_mode);
  const bool task = !core.long_mode && (type == kTaskGate || type == kTss16 || type == kTss32);
  const u8 needed = std::max<u8>(core.cpl, t.selector & 3);
  if ((!gate && !task) || descriptor.dpl() < needed) return core.raise(kGP, selector_error(t.selector));
  if (!descriptor.present()) return core.raise(kNP, selector_error(t.selector));
  return gate ? transfer_through_gate(core, t, descriptor) : transfer_to_task(core, t, descriptor);
}

bool transfer(Core& core, const Transfer& t) {
  if (!selector_mode(core)) return transfer_real(core, t);
  if (null_selector(t.selector)) return core.raise(kGP, 0);
  Descriptor descriptor;
  if (!read_descriptor(core, t.selector, kGP, descriptor)) return false;
  if (!descriptor.s()) return transfer_to_system(core, t, descriptor);
  if (!descriptor.code()) return core.raise(kGP, selector_error(t.selector));
  return transfer_to_code(core, t, descriptor);
}

Transfer direct_transfer(const Op& op, bool call) {
  return {static_cast<u16>(op.imm >> 32), op.imm & 0xffffffff, op.opsize, call};
}

/// Reads m16:16, m16:32 or m16:64.
bool indirect(Core& core, const Op& op, bool call) {
  Transfer t = {.width = op.opsize, .call = call};
  u64 linear = 0, selector_linear = 0;
  if (!operand_linear(core, op, op.opsize, false, linear)) return false;
  if (!operand_linear(core, op, 2, false, selector_linear, op.opsize)) return false;
  if (!read_slow(core, linear, &t.offset, op.opsize) || !read_mem(core, selector_linear, t.selector)) return false;
  return transfer(core, t);
}

bool return_real(Core& core, const Op& op) {
  StackCursor stack(core);
  u64 rip = 0, selector = 0;
  if (!stack.pop(rip, op.opsize) || !stack.pop(selector, op.opsize)) return false;
  if (rip > core.seg[kCs].limit) return core.raise(kGP, 0);
  stack.skip(op.imm);
  stack.commit();
  core.seg[kCs] = real_mode_segment(core, static_cast<u16>(selector), core.seg[kCs]);
  core.next_rip = rip;
  update_mode(core);
  return true;
}

bool return_protected(Core& core, const Op& op) {
  StackCursor stack(core);
  ReturnTarget target;
  u64 selector = 0;
  if (!stack.pop(target.rip, op.opsize) || !stack.pop(selector, op.opsize)) return false;
  target.selector = static_cast<u16>(selector);
  if (!check_return_code(core, target)) return false;
  stack.skip(op.imm);
  if (target.cpl() > core.cpl) {
    u64 sp = 0;
    Segment ss;
    if (!stack.pop(sp, op.opsize) || !stack.pop(selector, op.opsize)) return false;
    if (!check_return_stack(core, static_cast<u16>(selector), target, ss)) return false;
    set_return_stack(core, ss, sp + op.imm, core.long_mode && target.code.l());
  } else {
    stack.commit();
  }
  finish_return(core, target);
  return true;
}

}  // namespace

bool sys_call_far_ptr(Core& core, const Op& op) { return transfer(core, direct_transfer(op, true)); }
bool sys_call_far_mem(Core& core, const Op& op) { return indirect(core, op, true); }
bool sys_jmp_far_ptr(Core& core, const Op& op) { return transfer(core, direct_transfer(op, false)); }
bool sys_jmp_far_mem(Core& core, const Op& op) { return indirect(core, op, false); }

bool sys_ret_far(Core& core, const Op& op) {
  return selector_mode(core) ? return_protected(core, op) : return_real(core, op);
}

}  // namespace atl::soft
