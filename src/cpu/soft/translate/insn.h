// One guest instruction as the translator sees it: what is needed to encode it again with other registers, and what it does
// to registers, memory and flags.
#pragma once

#include <Zydis/Zydis.h>

#include <span>

#include "cpu/soft/decode/features.h"
#include "cpu/soft/exec/op.h"
#include "cpu/soft/translate/abi.h"

namespace atl::soft::translate {

enum class Kind : u8 {
  CallOut,       // run by the interpreter
  Copy,          // the same instruction with other registers and another memory operand
  Vector,        // the same for one that uses vector registers
  Nop,
  Lea,
  Push, Pop, Leave,
  Jmp, Jcc, Loop, CountZero,   // Loop: LOOP; CountZero: JECXZ, JRCXZ
  Call, Ret,
  JmpIndirect, CallIndirect,
  Cli, Sti, AccessFlag, SwapGs, PushFlags,   // CPL 0; AccessFlag: CLAC, STAC
  SystemCall, SystemReturn,    // SYSCALL at CPL 3, SYSRET to 64-bit code
  ReadSegment, ReadBase, WriteBase,   // MOV of a selector to a register; RDFSBASE, WRFSBASE and those of GS
  ReadTsc,       // RDTSC, RDTSCP
  BitString,     // BT and the like with a bit number from a register and an operand in memory
};

inline constexpr u8 kNone = 0xff;
inline constexpr u16 kArithmetic = kCF | kPF | kAF | kZF | kSF | kOF;

/// A general register that a field of the encoding names.
struct Field {
  u8 reg = kNone;
  u8 size = 0;         // bytes
  bool high = false;   // AH, CH, DH, BH (reg 0 to 3)
  bool read = false, write = false;
  bool used() const { return reg != kNone; }
};

struct MemoryOperand {
  bool present = false, read = false, write = false;
  bool rip = false;        // `disp` counts from the page's start
  bool narrow = false;     // 32-bit address in 64-bit code
  u8 base = kNone, index = kNone, scale = 0;
  u8 segment = kNone;      // kFs, kGs: whose base counts
  u8 size = 0;             // bytes
  i64 disp = 0;
};

/// How an instruction is encoded, apart from its operands.
struct Encoding {
  u8 map = 0;          // 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A
  u8 opcode = 0;
  u8 rep = 0;          // F2, F3 as a mandatory prefix
  bool operand16 = false;  // prefix 66
  bool wide = false;   // REX.W, VEX.W
  bool lock = false;
  bool vex = false, vex_l = false, evex = false;
  u8 vvvv = 0;         // VEX, EVEX: a register, 0 if unused
  u8 evex_last = 0;    // EVEX: z, L'L, b and aaa, where the last byte of the prefix has them
};

struct Insn {
  u16 offset = 0;          // in the page
  u8 length = 0;
  Kind kind = Kind::CallOut;
  bool ends = false;       // CallOut after which RIP says where to go on; AccessFlag after which other code does
  bool traps = false;      // may trap on the host
  bool wide = false;       // Vector: of AVX-512
  bool open_rm = false;    // ModR/M with a register in r/m
  bool has_modrm = false;
  u8 cond = 0;             // Jcc
  u8 digit = 0;            // ModR/M.reg if it names no general register: an extension of the opcode or a vector register
  u8 vector_rm = 0;        // ModR/M.rm if it is a vector register
  u8 imm_size = 0;
  u16 op = 0;              // CallOut and needs_op(): index into Draft::ops
  u16 reads = 0, writes = 0;                  // general registers, by bit
  u16 flags_read = 0, flags_killed = 0;       // RFLAGS bits. A flag that may stay as it is is not killed
  bool flags_change = false;                  // some flag may change
  Encoding enc;
  Field reg, rm, vex, code;                   // ModR/M.reg, ModR/M.rm, VEX.vvvv, the opcode's low bits
  MemoryOperand mem;
  u64 imm = 0;             // sign-extended
  i32 target = 0;          // direct branches: from the page's start
  ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;

  u16 end() const { return static_cast<u16>(offset + length); }
  /// A branch or call backwards in the page.
  bool loops() const { return (branches() || kind == Kind::Call) && target >= 0 && target <= offset; }
  bool straddles() const { return end() > kPageSize; }
  /// Whether control never goes on to the next instruction from here by itself.
  bool terminal() const {
    switch (kind) {
      case Kind::CallOut: case Kind::AccessFlag: return ends;
      case Kind::Jmp: case Kind::Call: case Kind::Ret: case Kind::JmpIndirect: case Kind::CallIndirect: return true;
      case Kind::SystemCall: case Kind::SystemReturn: return true;
      default: return false;
    }
  }
  bool conditional() const { return kind == Kind::Jcc || kind == Kind::Loop || kind == Kind::CountZero; }
  /// A branch in the middle of a block, which goes on behind it.
  bool side_exit() const { return kind == Kind::Jcc && target > offset; }
  /// Whether the interpreter may have to run it after all.
  bool needs_op() const {
    switch (kind) {
      case Kind::Sti: case Kind::SystemCall: case Kind::SystemReturn: case Kind::ReadBase: case Kind::WriteBase:
      case Kind::ReadTsc: return true;
      case Kind::AccessFlag: return ends;
      default: return traps;
    }
  }
  u8 vectors() const { return kind != Kind::Vector ? kNoVectors : wide ? kWideVectors : kNarrowVectors; }
  bool branches() const { return conditional() || kind == Kind::Jmp; }
  /// Whether the runtime may look at the guest's flags before the instruction runs: a fault, the interpreter.
  bool observes() const;
};

/// What instructions are made of, for one kind of code.
class InsnDecoder {
 public:
  InsnDecoder(const FeatureSet& features, Mode mode);
  /// False: the interpreter must run it (or the bytes are no instruction). `bytes` starts with it and ends with the page at most.
  bool decode(std::span<const u8> bytes, u16 offset, Insn& insn) const;

 private:
  const FeatureSet& features_;
  ZydisDecoder zydis_;
  bool long_code_, flat_fs_gs_;
  u8 tlb_set_;
};

}  // namespace atl::soft::translate
