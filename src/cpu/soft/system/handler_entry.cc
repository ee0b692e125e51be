#include "cpu/soft/system/handler_entry.h"

#include "cpu/soft/exec/address.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/segments.h"
#include "cpu/soft/system/stack.h"
#include "cpu/soft/system/task_switch.h"

namespace atl::soft {
namespace {

bool software(const Event& event) {
  return event.kind == EventKind::SoftwareInt || event.kind == EventKind::SoftwareException;
}

/// RFLAGS as the handler's frame holds them: faults set RF so that an instruction breakpoint does not fire again on return;
/// a #DB that is itself a fault does not.
u64 saved_flags(const Core& core, const Event& event) {
  u64 flags = core.rflags();
  if (event.kind == EventKind::Fault && event.vector != kDB) return flags | kRF;
  return event.kind == EventKind::Hardware ? flags : flags & ~u64{kRF};
}

/// SDM vol. 3, section 21.1.4: four bytes a vector, FLAGS, CS and IP on the stack, no error code.
bool enter_real(Core& core, const Event& event, u64 return_rip) {
  u32 entry = 0;
  if (event.vector * 4u + 3 > core.idtr.limit) return core.raise(kGP, event.vector * 8u + 2);
  if (!system_read(core, static_cast<u32>(core.idtr.base + event.vector * 4u), &entry, sizeof entry)) return false;
  StackCursor stack(core);
  if (!stack.push(saved_flags(core, event), 2) || !stack.push(core.seg[kCs].selector, 2) || !stack.push(return_rip, 2))
    return false;
  stack.commit();
  core.seg[kCs] = real_mode_segment(core, static_cast<u16>(entry >> 16), core.seg[kCs]);
  core.rip = entry & 0xffff;
  set_flags(core, core.rflags() & ~u64{kIF | kTF | kAC | kRF});
  update_mode(core);
  return true;
}

u32 gate_error(const Event& event) { return event.vector * 8u + 2; }

bool known_gate(const Core& core, u8 type) {
  if (type == kInterruptGate32 || type == kTrapGate32) return true;
  return !core.long_mode && (type == kTaskGate || type == kInterruptGate16 || type == kTrapGate16);
}

/// Reads and checks the IDT entry.
bool read_gate(Core& core, const Event& event, Descriptor& gate) {
  const unsigned bytes = core.long_mode ? 16 : 8;
  const u32 offset = event.vector * bytes;
  if (offset + bytes - 1 > core.idtr.limit) return core.raise(kGP, gate_error(event));
  u64 linear = core.long_mode ? core.idtr.base + offset : static_cast<u32>(core.idtr.base + offset);
  static_assert(offsetof(Descriptor, high) == offsetof(Descriptor, raw) + 8);
  if (!system_read(core, linear, &gate.raw, bytes)) return false;
  gate.high &= 0xffffffff;
  if (gate.s() || !known_gate(core, gate.type())) return core.raise(kGP, gate_error(event));
  if (software(event) && gate.dpl() < core.cpl) return core.raise(kGP, gate_error(event));
  return gate.present() || core.raise(kNP, gate_error(event));
}

/// The handler's code segment and the privilege it runs at.
struct Target {
  u16 selector = 0;
  Descriptor code;
  u8 cpl = 0;
};

bool find_target(Core& core, const Descriptor& gate, Target& out) {
  out.selector = gate.gate_selector();
  if (null_selector(out.selector)) return core.raise(kGP, 0);
  if (!read_descriptor(core, out.selector, kGP, out.code)) return false;
  bool wrong_size = core.long_mode && (!out.code.l() || out.code.db());
  if (!out.code.code() || out.code.dpl() > core.cpl || wrong_size) return core.raise(kGP, selector_error(out.selector));
  if (!out.code.present()) return core.raise(kNP, selector_error(out.selector));
  out.cpl = out.code.conforming() ? core.cpl : out.code.dpl();
  if (v86_mode(core) && out.cpl != 0) return core.raise(kGP, selector_error(out.selector));
  return set_accessed(core, out.code);
}

bool push_v86_segments(Core& core, StackCursor& stack, unsigned width) {
  for (SegReg reg : {kGs, kFs, kDs, kEs})
    if (!stack.push(core.seg[reg].selector, width)) return false;
  return true;
}

bool push_return(Core& core, const Event& event, u64 return_rip, StackCursor& stack, unsigned width) {
  if (!stack.push(saved_flags(core, event), width) || !stack.push(core.seg[kCs].selector, width)) return false;
  if (!stack.push(return_rip, width)) return false;
  return !event.has_error || stack.push(event.error, width);
}

/// CS:RIP and flags of the handler; nothing can fail any more.
void start_handler(Core& core, const Descriptor& gate, const Target& target, u64 rip) {
  core.seg[kCs] = make_segment(static_cast<u16>((target.selector & ~3u) | target.cpl), target.code);
  core.rip = rip;
  u64 clear = kTF | kNT | kRF | kVM;
  if (!(gate.type() & 1)) clear |= kIF;  // interrupt gates
  set_flags(core, core.rflags() & ~clear);
  update_mode(core);
}

bool enter_task(Core& core, const Event& event, const Descriptor& gate, u64 return_rip) {
  u16 selector = gate.gate_selector();
  if (!switch_task(core, selector, TaskSwitch::Call, return_rip)) return false;
  if (!event.has_error) return true;
  StackCursor stack(core);
  bool wide = (core.tr.type() & ~2) == kTss32;
  if (!stack.push(event.error, wide ? 4 : 2)) return false;
  stack.commit();
  return true;
}

bool enter_protected(Core& core, const Event& event, u64 return_rip) {
  Descriptor gate;
  if (!read_gate(core, event, gate)) return false;
  if (gate.type() == kTaskGate) return enter_task(core, event, gate, return_rip);
  Target target;
  if (!find_target(core, gate, target)) return false;
  const unsigned width = gate.type() & 8 ? 4 : 2;
  const u64 offset = width == 4 ? gate.gate_offset() : gate.raw & 0xffff;
  const bool inner = target.cpl < core.cpl;
  const bool from_v86 = v86_mode(core);
  Segment ss = core.seg[kSs];
  u64 sp = core.gpr[kRsp];
  if (inner && !inner_stack(core, target.cpl, ss, sp)) return false;
  StackCursor stack = inner ? StackCursor(core, ss, sp, target.cpl, false) : StackCursor(core);
  if (from_v86 && !push_v86_segments(core, stack, width)) return false;
  if (inner && (!stack.push(core.seg[kSs].selector, width) || !stack.push(core.gpr[kRsp], width))) return false;
  if (!push_return(core, event, return_rip, stack, width)) return false;
  if (static_cast<u32>(offset) > make_segment(0, target.code).limit) return core.raise(kGP, 0);
  core.seg[kSs] = ss;
  stack.commit();
  if (from_v86)
    for (SegReg reg : {kGs, kFs, kDs, kEs}) core.seg[reg] = null_segment(0);
  start_handler(core, gate, target, offset);
  return true;
}

/// The stack of a handler in IA-32e mode (SDM vol. 3, section 7.14.2): always RSP aligned to 16, SS pushed too.
bool long_stack(Core& core, const Descriptor& gate, u8 cpl, u64& sp) {
  const unsigned ist = gate.raw >> 32 & 7;
  if (ist) return tss64_stack(core, ist + 3, sp);
  if (cpl < core.cpl) return tss64_stack(core, cpl, sp);
  sp = core.gpr[kRsp];
  return true;
}

/// The frame in one write if its page holds it all; else by pushes, whose faults name the right address.
bool push_long_frame(Core& core, const Event& event, u64 return_rip, u8 cpl, u64& sp) {
  const u64 frame[] = {event.error,    return_rip, core.seg[kCs].selector, saved_flags(core, event),
                       core.gpr[kRsp], core.seg[kSs].selector};
  const unsigned skipped = event.has_error ? 0 : 1, bytes = sizeof frame - skipped * 8;
  const u64 top = (sp & ~u64{15}) - bytes;
  if ((top & (kPageSize - 1)) <= kPageSize - bytes && is_canonical(top)) [[likely]] {
    sp = top;
    return write_as(core, cpl == 3, top, frame + skipped, bytes);
  }
  StackCursor stack(core, null_segment(0), sp & ~u64{15}, cpl, true);
  if (!stack.push(core.seg[kSs].selector, 8) || !stack.push(core.gpr[kRsp], 8)) return false;
  if (!push_return(core, event, return_rip, stack, 8)) return false;
  sp = stack.sp();
  return true;
}

bool enter_long(Core& core, const Event& event, u64 return_rip) {
  Descriptor gate;
  Target target;
  u64 sp = 0;
  if (!read_gate(core, event, gate) || !find_target(core, gate, target)) return false;
  if (!long_stack(core, gate, target.cpl, sp)) return false;
  Segment ss = target.cpl < core.cpl ? null_segment(target.cpl, target.cpl) : core.seg[kSs];
  if (!push_long_frame(core, event, return_rip, target.cpl, sp)) return false;
  if (!is_canonical(gate.gate_offset())) return core.raise(kGP, 0);
  core.seg[kSs] = ss;
  core.gpr[kRsp] = sp;
  start_handler(core, gate, target, gate.gate_offset());
  return true;
}

}  // namespace

bool enter_handler_by_mode(Core& core, const Event& event, u64 return_rip) {
  if (real_mode(core)) return enter_real(core, event, return_rip);
  // Without VME, INT n in virtual-8086 mode is the monitor's unless IOPL is 3.
  if (event.kind == EventKind::SoftwareInt && v86_mode(core) && iopl(core) < 3) return core.raise(kGP, 0);
  return core.long_mode ? enter_long(core, event, return_rip) : enter_protected(core, event, return_rip);
}

}  // namespace atl::soft
