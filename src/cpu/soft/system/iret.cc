// IRET in every mode (SDM vol. 2, IRET/IRETD/IRETQ).
#include "cpu/soft/exec/address.h"
#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/far_return.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/stack.h"
#include "cpu/soft/system/task_switch.h"

namespace atl::soft {
namespace {

struct Frame {
  u64 rip = 0, cs = 0, flags = 0;
};

bool pop_frame(StackCursor& stack, unsigned width, Frame& out) {
  return stack.pop(out.rip, width) && stack.pop(out.cs, width) && stack.pop(out.flags, width);
}

/// Real and virtual-8086 mode.
bool iret_real(Core& core, const Op& op) {
  if (v86_mode(core) && iopl(core) < 3) return core.raise(kGP, 0);
  StackCursor stack(core);
  Frame frame;
  if (!pop_frame(stack, op.opsize, frame)) return false;
  if (frame.rip > core.seg[kCs].limit) return core.raise(kGP, 0);
  stack.commit();
  core.seg[kCs] = real_mode_segment(core, static_cast<u16>(frame.cs), core.seg[kCs]);
  core.next_rip = frame.rip;
  set_flags(core, merge_flags(core, frame.flags, op.opsize, true));
  update_mode(core);
  return true;
}

bool iret_task(Core& core) {
  if (core.long_mode) return core.raise(kGP, 0);
  u16 link = 0;
  return system_read(core, core.tr.base, &link, 2) && switch_task(core, link, TaskSwitch::Return, core.next_rip);
}

/// From CPL 0 into virtual-8086 mode: ESP, SS, ES, DS, FS and GS follow the frame.
bool iret_to_v86(Core& core, StackCursor& stack, const Frame& frame) {
  u64 sp = 0;
  std::array<u64, 5> selectors{};
  if (!stack.pop(sp, 4)) return false;
  for (u64& selector : selectors)
    if (!stack.pop(selector, 4)) return false;
  if (frame.rip > 0xffff) return core.raise(kGP, 0);
  constexpr SegReg kOrder[] = {kSs, kEs, kDs, kFs, kGs};
  set_flags(core, (frame.flags & 0x3f7fd5) | 2);
  for (unsigned i = 0; i < 5; ++i)
    core.seg[kOrder[i]] = real_mode_segment(core, static_cast<u16>(selectors[i]), {});
  core.seg[kCs] = real_mode_segment(core, static_cast<u16>(frame.cs), {});
  core.gpr[kRsp] = sp;
  core.next_rip = frame.rip;
  update_mode(core);
  return true;
}

u64 returned_flags(const Core& core, const Frame& frame, unsigned opsize) {
  u64 merged = merge_flags(core, frame.flags, opsize, true);
  constexpr u64 kVirtual = kVIF | kVIP;
  return core.cpl == 0 && opsize != 2 ? (merged & ~kVirtual) | (frame.flags & kVirtual) : merged;
}

bool iret_protected(Core& core, const Op& op) {
  StackCursor stack(core);
  Frame frame;
  if (!pop_frame(stack, op.opsize, frame)) return false;
  if ((frame.flags & kVM) && core.cpl == 0 && op.opsize == 4 && !core.long_mode) return iret_to_v86(core, stack, frame);
  ReturnTarget target = {.selector = static_cast<u16>(frame.cs), .rip = frame.rip};
  if (!check_return_code(core, target)) return false;
  // 64-bit code always pops SS:RSP.
  const bool switches = code64(core) || target.cpl() > core.cpl;
  Segment ss;
  if (switches) {
    u64 sp = 0, selector = 0;
    if (!stack.pop(sp, op.opsize) || !stack.pop(selector, op.opsize)) return false;
    if (!check_return_stack(core, static_cast<u16>(selector), target, ss)) return false;
    set_return_stack(core, ss, sp, core.long_mode && target.code.l());
  } else {
    stack.commit();
  }
  u64 flags = returned_flags(core, frame, op.opsize);
  finish_return(core, target);
  set_flags(core, flags);
  return true;
}

/// IRETQ: the whole frame in one read if its page holds it.
bool iret_long(Core& core, const Op& op) {
  struct {
    u64 rip, cs, flags, rsp, ss;
  } frame;
  const u64 sp = core.gpr[kRsp];
  if ((sp & (kPageSize - 1)) > kPageSize - sizeof frame || !is_canonical(sp)) return iret_protected(core, op);
  if (!read_as(core, core.cpl == 3, sp, &frame, sizeof frame)) return false;
  ReturnTarget target = {.selector = static_cast<u16>(frame.cs), .rip = frame.rip};
  Segment ss;
  if (!check_return_code(core, target) || !check_return_stack(core, static_cast<u16>(frame.ss), target, ss)) return false;
  set_return_stack(core, ss, frame.rsp, target.code.l());
  const u64 flags = returned_flags(core, {.flags = frame.flags}, 8);
  finish_return(core, target);
  set_flags(core, flags);
  return true;
}

void unblock_nmis(Core& core) {
  if (core.apic) core.apic->merge_nmis();
  core.nmi_masked = false;
}

}  // namespace

bool sys_iret(Core& core, const Op& op) {
  bool done = false;
  if (!selector_mode(core)) done = iret_real(core, op);
  else if (core.other_flags & kNT) done = iret_task(core);
  else done = op.opsize == 8 && code64(core) ? iret_long(core, op) : iret_protected(core, op);
  if (done && core.nmi_masked) unblock_nmis(core);
  return done;
}

}  // namespace atl::soft
