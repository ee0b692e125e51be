// The handlers by family: each function returns the handler for a decoded instruction's size and operands, or nullptr if the
// family has none of that shape (the decoder then refuses the encoding). The decoder's table names these.
#pragma once

#include "cpu/soft/exec/flag_ops.h"
#include "cpu/soft/exec/handler.h"

namespace atl::soft {

// alu.cc: dst = dst op src or imm; memory operand on either side
template <Alu K>
Handler pick_alu(const Pick& pick);
template <Unary K>
Handler pick_unary(const Pick& pick);

// shift.cc: count in CL (shape Reg, Mem) or imm (RegImm, MemImm)
template <Shift K>
Handler pick_shift(const Pick& pick);
template <bool kLeft>
Handler pick_double_shift(const Pick& pick);  // dst or memory, src, count as above

// move.cc
Handler pick_mov(const Pick& pick);
Handler pick_lea(const Pick& pick);
Handler pick_xchg(const Pick& pick);          // RegReg; the memory form is exchange_memory() in atomic.h
Handler pick_bswap(const Pick& pick);
Handler pick_movbe(const Pick& pick);
Handler pick_nop(const Pick& pick);
/// dst of `pick.size` = src of `source_size`, extended.
Handler pick_extend(const Pick& pick, u8 source_size, bool is_signed);
Handler pick_cmov(const Pick& pick, u8 condition_code);
Handler pick_setcc(const Pick& pick, u8 condition_code);
Handler pick_widen(const Pick& pick);         // CBW CWDE CDQE: size is the result's
Handler pick_sign_fill(const Pick& pick);     // CWD CDQ CQO

// multiply.cc
Handler pick_imul_two(const Pick& pick);      // RegReg, RegMem
Handler pick_imul_three(const Pick& pick);    // dst = src or memory * imm
template <bool kSigned>
Handler pick_multiply(const Pick& pick);      // rDX:rAX = rAX * operand
template <bool kSigned>
Handler pick_divide(const Pick& pick);

// bits.cc
template <BitTest K>
Handler pick_bit_test(const Pick& pick);
template <BitScan K>
Handler pick_bit_scan(const Pick& pick);

// branch.cc
Handler pick_jcc(const Pick& pick, u8 condition_code, bool same_page);
/// CMP or TEST of registers or with an immediate, followed by Jcc, in 64-bit code: one handler for both, nullptr if none.
struct CompareAndJump {
  bool test = false, immediate = false;
  u8 size = 4;            // of the comparison
  u8 condition_code = 0;
  bool same_page = false;
};
Handler pick_compare_and_jump(const CompareAndJump& pair);
Handler pick_jmp(const Pick& pick, bool same_page);
Handler pick_call(const Pick& pick, bool same_page);
Handler pick_jmp_indirect(const Pick& pick);  // Reg, Mem
Handler pick_call_indirect(const Pick& pick);
Handler pick_ret(const Pick& pick);           // imm: bytes to release
Handler pick_end(const Pick& pick, bool same_page);  // falls through to the next block

// stack.cc
Handler pick_push(const Pick& pick);          // Reg, Mem, RegImm (imm alone)
Handler pick_pop(const Pick& pick);           // Reg
Handler pick_leave(const Pick& pick);

// flags.cc
Handler pick_flag(u8 opcode);                 // CLC STC CMC CLD STD LAHF SAHF, by opcode

}  // namespace atl::soft
