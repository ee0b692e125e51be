// SYSCALL of CPL 3 and SYSRET to it, both in 64-bit code (SDM vol. 2): what the interpreter does in system/fast_calls.cc, on the
// core's fields. Vectors stay live on the way. Whatever is not the usual case is left to the interpreter: the instructions not
// enabled, SFMASK without TF and AC, a return with one of these or to an address that is not the user's, interrupts that wait.
#include "cpu/soft/translate/core_layout.h"
#include "cpu/soft/translate/emitter.h"

namespace atl::soft::translate {
namespace {

constexpr u16 kCode64 = 0xa09b, kStack = 0xc093;  // as Segment::attributes has them, DPL 0
constexpr u16 kUserDpl = 3 << 5;
constexpr i32 kTrapAndAlign = kTF | kAC;
constexpr i32 kReturnedFlags = 0x3c7fd7;

}  // namespace

/// Scratch 1: the new RFLAGS. Both scratch registers are lost.
void Emitter::set_flags_image() {
  a_.move(4, kScratch0, kScratch1);
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch0), ~static_cast<i32>(kArithmetic));
  a_.alu_imm(AluOp::Or, 4, Place::of(kScratch0), 2);
  a_.store(8, core(layout::kOtherFlags), kScratch0);
  a_.move(4, kScratch0, kScratch1);
  a_.shift_right(kScratch0, 11);  // OF
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch0), 1);
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch1), kArithmetic & 0xff);
  a_.shift_left(4, kScratch1, 8);
  a_.alu(AluOp::Or, 4, kScratch0, Place::of(kScratch1));
  a_.alu_imm(AluOp::Or, 4, Place::of(kScratch0), 0x200);
  a_.store(2, core(layout::kFlags), kScratch0);
}

/// A flat one whose selector is in scratch 0.
void Emitter::set_segment(unsigned segment, u16 attributes) {
  static_assert(offsetof(Segment, selector) == 0 && offsetof(Segment, attributes) == 2 && offsetof(Segment, unusable) == 4);
  a_.move(4, kScratch1, kScratch0);
  a_.alu_imm(AluOp::Or, 4, Place::of(kScratch1), static_cast<i32>(u32{attributes} << 16));
  a_.store(8, core(layout::segment(segment, 0)), kScratch1);
  a_.store_imm(4, core(layout::segment(segment, offsetof(Segment, limit))), -1);
  a_.store_imm(8, core(layout::segment_base(segment)), 0);
}

/// To code of another privilege, whose address is in scratch 0.
void Emitter::enter_privilege(u8 cpl, TlbSet set) {
  const auto mode = static_cast<Mode>((request_.mode & ~(3 << kModeSetShift)) | set << kModeSetShift);
  a_.store_imm(1, core(layout::kCpl), cpl);
  a_.store_imm(1, core(layout::kDataSet), set);
  a_.store_imm(1, core(layout::kTranslateMode), mode);
  look_up_jump(mode);
}

void Emitter::emit_system_call(const Insn& insn) {
  ensure_memory();
  s_.host = false;
  take_scratch();
  a_.test_imm(1, Place::of(core(layout::kEfer)), static_cast<i32>(kEferSCE));
  interpret_if(kEqual, false);
  a_.load(4, kScratch0, core(layout::kSfmask));
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch0), kTrapAndAlign);
  a_.alu_imm(AluOp::Cmp, 4, Place::of(kScratch0), kTrapAndAlign);
  interpret_if(kNotEqual, false);
  target_rip(insn.end());
  store_guest(kRcx, kScratch0);
  flags_image();
  store_guest(kR11, kScratch1);
  a_.load(4, kScratch0, core(layout::kSfmask));
  a_.alu_imm(AluOp::Xor, 4, Place::of(kScratch0), -1);
  a_.alu(AluOp::And, 4, kScratch1, Place::of(kScratch0));
  set_flags_image();
  a_.load_zero16(kScratch0, core(layout::kStar + 4));
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch0), 0xfffc);
  set_segment(kCs, kCode64);
  a_.alu_imm(AluOp::Add, 4, Place::of(kScratch0), 8);
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch0), 0xfffc);
  set_segment(kSs, kStack);
  a_.load(8, kScratch0, core(layout::kLstar));
  enter_privilege(0, kSupervisorSet);
}

void Emitter::emit_system_return() {
  constexpr u8 kSignBit = 47;
  ensure_memory();
  s_.host = false;
  take_scratch();
  a_.test_imm(1, Place::of(core(layout::kEfer)), static_cast<i32>(kEferSCE));
  interpret_if(kEqual, false);
  a_.test_imm(4, guest_place(kR11), kTrapAndAlign);
  interpret_if(kNotEqual, false);
  a_.alu_imm(AluOp::Cmp, 4, Place::of(core(layout::kInterruptRefused)), 0);
  interpret_if(kNotEqual, false);
  load_guest(kScratch1, kRcx);
  a_.shift_right(kScratch1, kSignBit);
  interpret_if(kNotEqual, false);
  load_guest(kScratch1, kR11);
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch1), kReturnedFlags);
  set_flags_image();
  a_.load_zero16(kScratch0, core(layout::kStar + 6));
  a_.alu_imm(AluOp::Add, 4, Place::of(kScratch0), 8);
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch0), 0xfffc);
  a_.alu_imm(AluOp::Or, 4, Place::of(kScratch0), 3);
  set_segment(kSs, kStack | kUserDpl);
  a_.alu_imm(AluOp::Add, 4, Place::of(kScratch0), 8);
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch0), 0xffff);
  set_segment(kCs, kCode64 | kUserDpl);
  load_guest(kScratch0, kRcx);
  enter_privilege(3, kUserSet);
}

}  // namespace atl::soft::translate
