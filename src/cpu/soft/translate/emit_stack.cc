// PUSH, POP, LEAVE and what CALL pushes. The full stack word of the mode, a flat stack segment.
#include "cpu/soft/translate/core_layout.h"
#include "cpu/soft/translate/emitter.h"

namespace atl::soft::translate {
void Emitter::move_stack(i32 bytes) {
  u8 rsp = kHostOf[kRsp];
  a_.lea(word(), rsp, {.base = rsp, .disp = bytes});
}

void Emitter::emit_push(const Insn& insn, u16 live_after) {
  i32 size = static_cast<i32>(word());
  bool checks = clobbers(accesses().stack) || (insn.mem.present && clobbers(accesses().operand));
  settle_recipe(insn, live_after, checks);
  if (insn.mem.present) {
    HostMemory from = reach(insn.mem, false, accesses().operand);
    a_.load(word(), kScratch1, from);
    a_.store(8, core(layout::slot(0)), kScratch1);
  }
  HostMemory at = reach_stack(kRsp, -size, true);
  const Field& field = insn.code.used() ? insn.code : insn.rm;
  if (insn.mem.present) {
    a_.load(8, kScratch1, core(layout::slot(0)));
    a_.store(word(), at, kScratch1);
  } else if (field.used()) {
    a_.store(word(), at, guest_in(field.reg, kScratch1));
  } else {
    a_.store_imm(word(), at, insn.imm_size == 1 ? static_cast<i8>(insn.imm) : static_cast<i32>(insn.imm));
  }
  move_stack(-size);
  note_flags(insn);
}

void Emitter::emit_pop(const Insn& insn, u16 live_after) {
  u8 guest = insn.code.used() ? insn.code.reg : insn.rm.reg;
  settle_recipe(insn, live_after, clobbers(accesses().stack));
  HostMemory at = reach_stack(kRsp, 0, false);
  u8 to = in_memory(guest) ? u8{kScratch1} : kHostOf[guest];
  a_.load(word(), to, at);
  store_guest(guest, to);
  if (guest != kRsp) move_stack(static_cast<i32>(word()));
  note_flags(insn);
}

void Emitter::emit_leave(const Insn& insn, u16 live_after) {
  u8 rsp = kHostOf[kRsp], rbp = kHostOf[kRbp];
  settle_recipe(insn, live_after, clobbers(accesses().stack));
  HostMemory at = reach_stack(kRbp, 0, false);
  a_.lea(word(), rsp, {.base = rbp, .disp = static_cast<i32>(word())});
  a_.load(word(), rbp, at);
  note_flags(insn);
}

/// Pushes the address behind `insn`.
void Emitter::emit_push_return(const Insn& insn) {
  i32 size = static_cast<i32>(word());
  HostMemory at = reach_stack(kRsp, -size, true);
  a_.load(8, kScratch1, core(layout::kPageRip));
  a_.lea(word(), kScratch1, {.base = kScratch1, .disp = insn.end()});
  a_.store(word(), at, kScratch1);
  move_stack(-size);
}

}  // namespace atl::soft::translate
