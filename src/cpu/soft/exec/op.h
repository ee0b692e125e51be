// A decoded instruction, ready to run: one handler and its operands. A block is an array of these.
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft {

struct Op;
struct CodeBlock;   // exec/block_cache.h
struct NativeStub;  // native/stub.h: host code for one SIMD or x87 instruction

/// Executes `op` and goes on with the next one by a tail call. Returns to the run loop at the end of a block, with core.rip
/// set: nullptr after a fault (core.fault_pending, core.rip at the faulting instruction) or when the loop must look at
/// something first; the ending op when the block at core.rip may be linked to it.
using Handler = const Op* (*)(Core&, const Op*);

/// Register numbers of an Op: 0 to 15 the general registers, then two that exist in addresses only. Fields that hold no
/// register hold kNoReg; an r/m operand with kNoReg in its field is the memory operand.
inline constexpr u8 kNoReg = 16;    // adds 0 to an address
inline constexpr u8 kRipBase = 17;  // `disp` counts from the block's start, so that the sum is right as for any base
/// dst/src of byte operands of system and native instructions: kHighByte + n is AH, CH, DH, BH.
inline constexpr u8 kHighByte = 32;

struct Op {
  Handler run = nullptr;
  u64 imm = 0;               // immediate, sign-extended; direct branch: target as offset from the block's start
  union {
    const NativeStub* stub = nullptr;
    mutable CodeBlock* link;   // of an op that ends a block: the block that followed last time
    bool (*system)(Core&, const Op&);  // SystemFunction
  };
  i64 disp = 0;              // of the memory operand; a moffs is this alone
  u16 offset = 0;            // of this instruction from the block's start, bytes
  u8 length = 0;             // bytes
  u8 opsize = 4;             // operand size in bytes
  u8 dst = kNoReg, src = kNoReg, src2 = kNoReg;
  u8 base = kNoReg, index = kNoReg, scale = 0;   // memory operand; scale is a shift count
  u8 seg = kDs;
  u8 addrsize = 8;           // bytes: 2, 4, 8
  u8 rep = 0;                // 0, 0xf2, 0xf3
  bool lock = false;
  u8 cond = 0;               // condition code of Jcc, SETcc, CMOVcc
  u8 extra = 0;              // handler's own
};
static_assert(sizeof(Op) == 48);

/// Instructions of system/ and native/ are functions of this shape. They return false after raising a fault. While one
/// runs, core.rip is the address of its own instruction; a function that branches sets core.next_rip, which is preset to
/// the following instruction. The wrapper in exec/ commits core.rip = core.next_rip when it returned true.
using SystemFunction = bool (*)(Core&, const Op&);

}  // namespace atl::soft
