// The host code of one stub: load the registers concerned, run the instruction, store what it changed.
#pragma once

#include <Zydis/Zydis.h>

#include <vector>

#include "cpu/soft/native/code_arena.h"
#include "cpu/soft/native/reencode.h"
#include "cpu/soft/native/stub.h"

namespace atl::soft {

/// What an instruction reads and writes, by register file. Bit n stands for register n.
struct RegisterUse {
  u32 xmm = 0, xmm_written = 0;
  u32 ymm = 0;                  // those of `xmm` whose upper half is meant too
  u8 opmask = 0, opmask_written = 0;
  u32 mm = 0, mm_written = 0;
  bool flags_read = false, flags_written = false;
  bool eax_edx_read = false, ecx_written = false;  // the string comparisons of SSE4.2
};
RegisterUse register_use(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands);

/// `use_mxcsr`: the instruction rounds or raises floating-point exceptions.
struct StubCode {
  std::vector<u8> bytes;
  size_t fault_exit = 0;  // offset
};
StubCode make_simd_code(const Reencoding& instruction, const RegisterUse& use, bool vex, bool use_mxcsr, const CodeArena& arena);
/// For AVX-512: EVEX, and the instructions on opmasks.
StubCode make_wide_code(const Reencoding& instruction, const RegisterUse& use, bool use_mxcsr, const CodeArena& arena);
StubCode make_x87_code(const Reencoding& instruction, const RegisterUse& use, const CodeArena& arena);

}  // namespace atl::soft
