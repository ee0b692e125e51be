// SIMD and x87 instructions of the guest, each as a small piece of host code that runs the same instruction on the guest's
// registers (SDM vol. 1, chapters 8 to 14).
//
// Supported: x87, MMX, SSE to SSE4.2, AES, PCLMULQDQ, SHA, GFNI, AVX, AVX2, FMA, F16C, VAES, VPCLMULQDQ, AVX-512 (F, BW, CD, DQ, VL,
// IFMA, VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ, BF16), FXSAVE, the XSAVE family, as far as the host has them. Missing: AVX-512 ER, PF,
// 4VNNIW, 4FMAPS, VP2INTERSECT and FP16, XOP, 3DNow!, SSE4A (all #UD). The x87 instruction and data pointers are kept
// for unmasked exceptions as the guest's addresses, but FCS and FDS read as 0, and FOP is that of the last non-control
// instruction.
//
// For the decoder. find_stub() tells whether an instruction belongs here. The Op then needs the memory operand as usual,
// hidden ones (MASKMOVDQU's [rDI]) too; the index register of a gather is not a GPR and stands as kNoReg, with `scale` as
// usual. GPR and vector operands are the stub's own affair. CRC32, POPCNT, MOVNTI, fences, prefetches and cache line
// instructions do not belong here.
#pragma once

#include <Zydis/Zydis.h>

#include <span>

#include "base/result.h"
#include "cpu/soft/exec/op.h"

namespace atl::soft {

/// Which of CR0, CR4, XCR0 an instruction depends on.
enum class Gate : u8 { Sse, Vex, Wide, Mmx, SseMmx, X87 };

/// Which elements of the memory operand an instruction with an opmask reaches; the others cannot fault.
enum class Masking : u8 {
  None,      // the whole operand, whatever the mask says
  Elements,  // element i if the mask has bit i, or bit i of one of the groups that it is repeated for
  Packed,    // as many elements from the first as the mask has bits: VCOMPRESS, VEXPAND
};

struct NativeStub {
  /// Makes the processor's checks, reaches the memory operand, calls `code` or does without.
  bool (*run)(Core&, const Op&) = nullptr;
  /// Returns 1 if a SIMD floating-point exception that the guest unmasked came up; the registers are then unchanged.
  u32 (*code)(Core*, void* memory, const void* fault_exit) = nullptr;
  const void* fault_exit = nullptr;
  u16 memory_bytes = 0;
  u8 alignment = 1;    // what the memory operand must have, else #GP(0)
  bool reads_memory = false, writes_memory = false;
  Gate gate = Gate::Sse;
  bool uses_mxcsr = false;
  u8 length = 16;      // of the vectors, for the instructions that are not host code
  u8 element = 0, index_element = 0;          // bytes
  u8 reg = 0, mask = 0, index = 0;            // their vector registers
  Masking masking = Masking::None;
  u8 mask_bits = 0;                           // of the opmask `mask` count
  bool faults_whole = false;                  // masked-off elements of a store fault all the same
  bool wide = false;                          // REX.W forms of FXSAVE and XSAVE
  u16 fop = 0;         // x87 opcode: low three bits of the first byte, then ModR/M
};

/// Sets up executable memory and the SIGFPE handler, once a process; before it confines itself (seccomp) and before the
/// first vCPU decodes.
Status prepare_stubs();

/// The stub for an instruction, nullptr if it does not belong here or the host lacks it. `bytes` is the whole instruction.
/// Any thread. The result lives as long as the process; instructions of the same effect share one.
const NativeStub* find_stub(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands,
                            std::span<const u8> bytes);

/// Executes op.stub. A SystemFunction: false after raising a fault.
inline bool run_native(Core& core, const Op& op) { return op.stub->run(core, op); }

}  // namespace atl::soft
