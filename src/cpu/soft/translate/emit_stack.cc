// PUSH, POP, LEAVE and what CALL pushes. The full stack word of the mode, a flat stack segment.
#include "cpu/soft/translate/core_layout.h"
#include "cpu/soft/translate/emitter.h"

namespace atl::soft::translate {
namespace {

constexpr HostMemory kAtHost{kScratch0};

}  // namespace

void Emitter::move_stack(i32 bytes) {
  u8 rsp = kHostOf[kRsp];
  a_.lea(word(), rsp, {.base = rsp, .disp = bytes});
}

void Emitter::emit_push(const Insn& insn) {
  i32 size = static_cast<i32>(word());
  if (insn.mem.present) {
    check(insn.mem, false);
    a_.load(word(), kScratch1, kAtHost);
    a_.store(8, core(layout::slot(0)), kScratch1);
  }
  check_stack(kRsp, -size, true);
  const Field& field = insn.code.used() ? insn.code : insn.rm;
  if (insn.mem.present) {
    a_.load(8, kScratch1, core(layout::slot(0)));
    a_.store(word(), kAtHost, kScratch1);
  } else if (field.used()) {
    a_.store(word(), kAtHost, guest_in(field.reg, kScratch1));
  } else {
    a_.store_imm(word(), kAtHost, insn.imm_size == 1 ? static_cast<i8>(insn.imm) : static_cast<i32>(insn.imm));
  }
  move_stack(-size);
  note_flags(insn);
}

void Emitter::emit_pop(const Insn& insn) {
  u8 guest = insn.code.used() ? insn.code.reg : insn.rm.reg;
  check_stack(kRsp, 0, false);
  u8 to = in_memory(guest) ? u8{kScratch1} : kHostOf[guest];
  a_.load(word(), to, kAtHost);
  store_guest(guest, to);
  if (guest != kRsp) move_stack(static_cast<i32>(word()));
  note_flags(insn);
}

void Emitter::emit_leave(const Insn& insn) {
  u8 rsp = kHostOf[kRsp], rbp = kHostOf[kRbp];
  check_stack(kRbp, 0, false);
  a_.lea(word(), rsp, {.base = rbp, .disp = static_cast<i32>(word())});
  a_.load(word(), rbp, kAtHost);
  note_flags(insn);
}

/// Pushes the address behind `insn`.
void Emitter::emit_push_return(const Insn& insn) {
  i32 size = static_cast<i32>(word());
  check_stack(kRsp, -size, true);
  a_.load(8, kScratch1, core(layout::kPageRip));
  a_.lea(word(), kScratch1, {.base = kScratch1, .disp = insn.end()});
  a_.store(word(), kAtHost, kScratch1);
  move_stack(-size);
}

}  // namespace atl::soft::translate
