// Instructions of the kernel's short paths: CLI, STI, CLAC, STAC, SWAPGS and PUSHF. Only in code of CPL 0 (mode_of() knows no
// mode for CPL 1 and 2), where they cannot fault but for PUSHF's access. What they need is in the core; where more must be
// done than to change it, the interpreter takes over.
#include "cpu/soft/translate/core_layout.h"
#include "cpu/soft/translate/emitter.h"

namespace atl::soft::translate {
namespace {

/// The byte of a flag in Core::other_flags, and the flag in it.
struct FlagByte {
  i32 at;
  u8 bit;
};
constexpr FlagByte byte_of(u64 flag) {
  i32 byte = 0;
  for (; flag > 0x80; flag >>= 8) ++byte;
  return {layout::kOtherFlags + byte, static_cast<u8>(flag)};
}

constexpr FlagByte kInterruptFlag = byte_of(kIF);

}  // namespace

void Emitter::set_flag(u64 flag, bool on) {
  const FlagByte place = byte_of(flag);
  const i32 value = on ? place.bit : static_cast<i8>(~place.bit);
  a_.alu_imm(on ? AluOp::Or : AluOp::And, 1, Place::of(core(place.at)), value);
}

/// To the interpreter with the instruction if `cond` holds.
void Emitter::interpret_if(u8 cond, bool resumes) {
  a_.jump_if(cond, aside({.kind = Aside::Kind::Interpret, .state = s_, .insn = insn_, .resume = resume_, .resumes = resumes,
                          .op = insn_->op}));
}

void Emitter::emit_interpret(const Aside& what) {
  ensure_memory();
  call_thunk(Thunk::CallOut);
  add_site({.at = a_.here(), .offset = insn_->offset, .op = what.op, .vectors = s_.vectors}, what.resume, what.resumes);
}

void Emitter::emit_cli() {
  before_clobber();
  set_flag(kIF, false);
}

/// Interrupts that wait already are the interpreter's: those that ask for attention, and those that were refused while IF was
/// clear.
void Emitter::emit_sti(const Insn& insn) {
  before_clobber();
  for (i32 waiting : {layout::kAttention, layout::kInterruptRefused}) {
    a_.alu_imm(AluOp::Cmp, 4, Place::of(core(waiting)), 0);
    interpret_if(kNotEqual, true);
  }
  Label done = a_.new_label();
  a_.test_imm(1, Place::of(core(kInterruptFlag.at)), kInterruptFlag.bit);
  a_.jump_if(kNotEqual, done);
  target_rip(insn.end());
  a_.store(8, core(layout::kShadowRip), kScratch0);
  set_flag(kIF, true);
  a_.bind(done);
}

/// Under SMAP the flag selects another TLB set, and with it other code: control goes on there.
void Emitter::emit_access_flag(const Insn& insn) {
  const bool on = insn.mnemonic == ZYDIS_MNEMONIC_STAC;
  before_clobber();
  if (!insn.ends) return set_flag(kAC, on);
  if (on) {
    a_.test_imm(4, Place::of(core(layout::kCr4)), static_cast<i32>(kCr4SMAP));
    interpret_if(kEqual, false);
  }
  ensure_memory();
  const TlbSet set = on ? kSmapOpenSet : kSupervisorSet;
  const auto mode = static_cast<Mode>((request_.mode & ~(3 << kModeSetShift)) | set << kModeSetShift);
  set_flag(kAC, on);
  a_.store_imm(1, core(layout::kDataSet), set);
  a_.store_imm(1, core(layout::kTranslateMode), mode);
  target_rip(insn.end());
  look_up_jump(mode);
}

void Emitter::emit_swapgs() {
  take_scratch();
  const HostMemory base = core(layout::segment_base(kGs)), other = core(layout::kKernelGsBase);
  a_.load(8, kScratch0, base);
  a_.load(8, kScratch1, other);
  a_.store(8, base, kScratch1);
  a_.store(8, other, kScratch0);
}

/// Core::cc is right.
void Emitter::flags_image() {
  take_scratch();
  a_.load_zero16(kScratch0, core(layout::kFlags));
  a_.move(8, kScratch1, kScratch0);
  a_.shift_right(kScratch1, 8);
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch1), kArithmetic & 0xff);
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch0), 1);
  a_.shift_left(4, kScratch0, 11);  // OF
  a_.alu(AluOp::Or, 8, kScratch1, Place::of(kScratch0));
  a_.alu(AluOp::Or, 8, kScratch1, Place::of(core(layout::kOtherFlags)));
  a_.alu_imm(AluOp::And, 8, Place::of(kScratch1), static_cast<i32>(~(kRF | kVM)));
  s_.host = false;
}

/// The image waits in slot 0, as the check of the stack needs the scratch registers.
void Emitter::emit_push_flags(const Insn& insn) {
  const i32 size = static_cast<i32>(word());
  ensure_memory();
  flags_image();
  a_.store(8, core(layout::slot(0)), kScratch1);
  HostMemory at = reach_stack(kRsp, -size, true);
  a_.load(8, kScratch1, core(layout::slot(0)));
  a_.store(word(), at, kScratch1);
  move_stack(-size);
  note_flags(insn);
}

}  // namespace atl::soft::translate
