// A decoded instruction, ready to run: one handler and its operands. A block is an array of these.
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft {

struct Op;
/// Executes `op` and goes on with the next one by a tail call. Returns to the run loop at the end of a block: nullptr after
/// a fault (core.fault_pending, core.rip at the faulting instruction), or when the block ended with core.rip set.
using Handler = const Op* (*)(Core&, const Op*);

inline constexpr u8 kNoReg = 0xff;

struct NativeStub;  // native/stub.h: host code for one SIMD or x87 instruction

struct Op {
  Handler run = nullptr;
  u64 imm = 0;               // immediate, sign-extended; direct branch: target as offset from the next instruction
  const NativeStub* stub = nullptr;
  i32 disp = 0;              // of the memory operand, or low part of a 64-bit moffs (then in imm)
  u16 offset = 0;            // of this instruction from the block's start, bytes
  u8 length = 0;             // bytes
  u8 opsize = 4;             // operand size in bytes
  u8 dst = kNoReg, src = kNoReg, src2 = kNoReg;  // GPR numbers; byte registers 4-7 without REX are AH..BH as 20..23
  u8 base = kNoReg, index = kNoReg, scale = 0;   // memory operand; base kRipBase for RIP-relative
  u8 seg = kDs;
  u8 addrsize = 8;           // bytes: 2, 4, 8
  u8 rep = 0;                // 0, 0xf2, 0xf3
  bool lock = false;
  u8 cond = 0;               // condition code of Jcc, SETcc, CMOVcc
  u8 extra = 0;              // handler's own
};
inline constexpr u8 kRipBase = 0xfe;
inline constexpr u8 kHighByte = 16;  // dst/src - kHighByte is the register whose bits 15:8 are meant

/// Instructions of system/ and native/ are functions of this shape. They return false after raising a fault. While one
/// runs, core.rip is the address of its own instruction; a function that branches sets core.next_rip, which is preset to
/// the following instruction. The wrapper in exec/ commits core.rip = core.next_rip when it returned true.
using SystemFunction = bool (*)(Core&, const Op&);

}  // namespace atl::soft
