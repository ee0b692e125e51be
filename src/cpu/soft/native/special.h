// Instructions of native/ that are C++ and not host code, each a NativeStub::run.
#pragma once

#include "cpu/soft/native/stub.h"

namespace atl::soft {

// run.cc: around host code
bool run_simd(Core& core, const Op& op);
bool run_mmx(Core& core, const Op& op);
bool run_x87(Core& core, const Op& op);

// simd_control.cc
bool run_ldmxcsr(Core& core, const Op& op);
bool run_stmxcsr(Core& core, const Op& op);
bool run_vzeroupper(Core& core, const Op& op);
bool run_vzeroall(Core& core, const Op& op);
bool run_emms(Core& core, const Op& op);

// masked.cc
bool run_masked_load(Core& core, const Op& op);
bool run_masked_store(Core& core, const Op& op);
bool run_maskmovdqu(Core& core, const Op& op);
bool run_maskmovq(Core& core, const Op& op);
bool run_gather(Core& core, const Op& op);

// opmask.cc: AVX-512's masks
bool run_opmasked(Core& core, const Op& op);
bool run_opmask_gather(Core& core, const Op& op);
bool run_opmask_scatter(Core& core, const Op& op);

// x87_control.cc
bool run_fwait(Core& core, const Op& op);
bool run_fnop_no_wait(Core& core, const Op& op);  // FENI, FDISI, FSETPM of older coprocessors
bool run_fninit(Core& core, const Op& op);
bool run_fnclex(Core& core, const Op& op);
bool run_fnstcw(Core& core, const Op& op);
bool run_fnstsw_ax(Core& core, const Op& op);
bool run_fnstsw(Core& core, const Op& op);
bool run_fldcw(Core& core, const Op& op);
bool run_fnstenv(Core& core, const Op& op);
bool run_fldenv(Core& core, const Op& op);
bool run_fnsave(Core& core, const Op& op);
bool run_frstor(Core& core, const Op& op);

// xsave.cc
bool run_fxsave(Core& core, const Op& op);
bool run_fxrstor(Core& core, const Op& op);
bool run_xsave(Core& core, const Op& op);
bool run_xsaveopt(Core& core, const Op& op);
bool run_xsavec(Core& core, const Op& op);
bool run_xrstor(Core& core, const Op& op);

// overflow.cc: host code made anew at each execution, once the shared arena is full
bool run_overflow(Core& core, const Op& op);
/// For run_overflow: compiles, runs and forgets. stub.cc
bool run_stub_once(Core& core, const Op& op, const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands,
                   std::span<const u8> bytes);

}  // namespace atl::soft
