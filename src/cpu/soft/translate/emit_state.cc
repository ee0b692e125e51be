// Reads of segment registers, RDFSBASE and WRFSBASE and those of GS, RDTSC and RDTSCP; and bit strings in memory, whose address depends on the bit
// number.
#include <bit>

#include "cpu/soft/translate/core_layout.h"
#include "cpu/soft/translate/emitter.h"

namespace atl::soft::translate {

/// The selector is zero-extended to 32 and 64 bits; of a 16-bit register the rest stays.
void Emitter::emit_read_segment(const Insn& insn) {
  take_scratch();
  a_.load_zero16(kScratch0, core(layout::segment(insn.digit, offsetof(Segment, selector))));
  if (insn.rm.size > 2) store_guest(insn.rm.reg, kScratch0);
  else if (in_memory(insn.rm.reg)) a_.store(2, core(layout::gpr(insn.rm.reg)), kScratch0);
  else a_.move(2, kHostOf[insn.rm.reg], kScratch0);
  note_flags(insn);
}

/// Without CR4.FSGSBASE, or for an address that is not canonical, they fault: the interpreter's affair.
void Emitter::emit_base(const Insn& insn) {
  constexpr u8 kSignBit = 47;
  const bool gs = insn.mnemonic == ZYDIS_MNEMONIC_RDGSBASE || insn.mnemonic == ZYDIS_MNEMONIC_WRGSBASE;
  const HostMemory base = core(layout::segment_base(gs ? kGs : kFs));
  before_clobber();
  take_scratch();
  a_.test_imm(4, Place::of(core(layout::kCr4)), static_cast<i32>(kCr4FSGSBASE));
  interpret_if(kEqual, true);
  if (insn.kind == Kind::ReadBase) {
    a_.load(insn.rm.size, kScratch0, base);
    store_guest(insn.rm.reg, kScratch0);
    return note_flags(insn);
  }
  if (in_memory(insn.rm.reg)) a_.load(insn.rm.size, kScratch0, core(layout::gpr(insn.rm.reg)));
  else a_.move(insn.rm.size, kScratch0, kHostOf[insn.rm.reg]);
  a_.move(8, kScratch1, kScratch0);
  a_.shift_right(kScratch1, kSignBit);
  a_.alu_imm(AluOp::Add, 4, Place::of(kScratch1), 1);
  a_.test_imm(4, Place::of(kScratch1), 0x1fffe);  // of 0 and 1FFFF, plus 1
  interpret_if(kNotEqual, true);
  a_.store(8, base, kScratch0);
  note_flags(insn);
}

/// TscSegment::at() of the host's TSC. Where the segment does not hold it, or CR4.TSD may forbid it, the interpreter reads the clock.
void Emitter::emit_read_tsc(const Insn& insn) {
  before_clobber();
  if (tlb_set_ == kUserSet) {
    a_.test_imm(4, Place::of(core(layout::kCr4)), static_cast<i32>(kCr4TSD));
    interpret_if(kNotEqual, true);
  }
  a_.read_tsc();
  a_.shift_left(8, kHostRdx, 32);
  a_.alu(AluOp::Or, 8, kHostRax, Place::of(kHostRdx));
  a_.alu(AluOp::Sub, 8, kHostRax, Place::of(core(layout::tsc(offsetof(TscSegment, begin)))));
  a_.alu_imm(AluOp::Cmp, 8, Place::of(kHostRax), static_cast<i32>(TscSegment::kTicks));
  interpret_if(kAboveOrEqual, true);
  a_.multiply(kHostRax, Place::of(core(layout::tsc(offsetof(TscSegment, rate)))));
  a_.shift_right(kHostRax, 32);
  a_.alu(AluOp::Add, 8, kHostRax, Place::of(core(layout::tsc(offsetof(TscSegment, base_ns)))));
  a_.alu(AluOp::Add, 8, kHostRax, Place::of(core(layout::kTscOffset)));
  a_.move(8, kHostRdx, kHostRax);
  a_.shift_right(kHostRdx, 32);
  a_.move(4, kHostRax, kHostRax);
  if (insn.mnemonic == ZYDIS_MNEMONIC_RDTSCP) a_.load(4, kHostRcx, core(layout::kTscAux));
  note_flags(insn);
}

/// The operand of the instruction's size that holds the bit is what is checked and reached; the number is then one inside it.
void Emitter::emit_bit_string(const Insn& insn, u16 live_after) {
  const unsigned size = insn.reg.size;
  const auto bits = static_cast<u8>(std::countr_zero(size * 8)), scale = static_cast<u8>(std::countr_zero(size));
  before_clobber();
  take_scratch();
  const HostOffset retry = a_.here();
  emit_address(insn.mem);
  a_.load_signed(size, kScratch1, guest_place(insn.reg.reg));
  a_.shift_arithmetic_right(kScratch1, bits);
  a_.lea(word(), kScratch0, {.base = kScratch0, .index = kScratch1, .scale = scale});
  check(size, insn.mem.write, miss_aside(insn.mem.write, retry));
  load_guest(kScratch1, insn.reg.reg);
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch1), static_cast<i32>(size * 8 - 1));
  a_.store(8, core(layout::slot(0)), kScratch1);
  if (live_after & ~insn.flags_killed) ensure_host();
  a_.load(8, kScratch1, core(layout::slot(0)));
  a_.encode(insn.enc, kScratch1, Place::of(HostMemory{kScratch0}));
  note_flags(insn);
}

}  // namespace atl::soft::translate
