// The system instructions: everything that touches privilege, segments, tables, events or model-specific registers.
//
// Operands as the decoder fills them in (exec/op.h). Where the manual has a register-or-memory operand, the register's
// number stands in the field named below, and kNoReg there means the memory operand.
//   one r/m operand (sldt str smsw lldt ltr lmsw verr verw)      dst
//   memory only (lgdt lidt sgdt sidt invlpg)                      memory operand
//   reg, r/m (lar lsl) and reg, mem (invpcid)                     dst = reg, src = r/m
//   r/m, reg (arpl)                                               dst = r/m, src = reg
//   mov cr/dr: mov_to_x src = GPR, extra = number; mov_from_x dst = GPR, extra = number (REX.R added)
//   mov sreg: mov_to_sreg src = r/m, extra = segment; mov_from_sreg dst = r/m, extra = segment; push/pop_sreg extra = segment
//   lds les lss lfs lgs (one function) dst = reg, extra = segment, memory operand
//   int imm = vector; ret_far imm = bytes to release
//   call_far_ptr jmp_far_ptr  imm = selector << 32 | offset (offset zero-extended); ..._mem: memory operand
//   rdfsbase rdgsbase rdpid dst; wrfsbase wrgsbase src
// opsize is the effective operand size in bytes. In 64-bit mode: pushf, popf, push/pop of FS and GS 8 (or 2); iret, far
// transfers and sysret 8 with REX.W, else 4 (or 2); mov cr/dr 8. mwait, hlt and all that change CS, CR, EFER or the TLB
// must end a block. LOCK before any of them is #UD and the decoder's to refuse, as are register forms of memory-only ones.
#pragma once

#include "cpu/soft/exec/op.h"

namespace atl::soft {

// table_registers.cc: descriptor table registers
bool sys_lgdt(Core& core, const Op& op);
bool sys_lidt(Core& core, const Op& op);
bool sys_sgdt(Core& core, const Op& op);
bool sys_sidt(Core& core, const Op& op);
bool sys_lldt(Core& core, const Op& op);
bool sys_ltr(Core& core, const Op& op);
bool sys_sldt(Core& core, const Op& op);
bool sys_str(Core& core, const Op& op);

// selectors.cc: segment registers and questions about selectors
bool sys_mov_to_sreg(Core& core, const Op& op);
bool sys_mov_from_sreg(Core& core, const Op& op);
bool sys_push_sreg(Core& core, const Op& op);
bool sys_pop_sreg(Core& core, const Op& op);
bool sys_load_far_pointer(Core& core, const Op& op);  // LDS LES LSS LFS LGS
bool sys_lar(Core& core, const Op& op);
bool sys_lsl(Core& core, const Op& op);
bool sys_verr(Core& core, const Op& op);
bool sys_verw(Core& core, const Op& op);
bool sys_arpl(Core& core, const Op& op);
bool sys_rdfsbase(Core& core, const Op& op);
bool sys_wrfsbase(Core& core, const Op& op);
bool sys_rdgsbase(Core& core, const Op& op);
bool sys_wrgsbase(Core& core, const Op& op);
bool sys_swapgs(Core& core, const Op& op);

// control_registers.cc
bool sys_mov_to_cr(Core& core, const Op& op);
bool sys_mov_from_cr(Core& core, const Op& op);
bool sys_lmsw(Core& core, const Op& op);
bool sys_smsw(Core& core, const Op& op);
bool sys_clts(Core& core, const Op& op);
bool sys_xgetbv(Core& core, const Op& op);
bool sys_xsetbv(Core& core, const Op& op);

// debug_registers.cc
bool sys_mov_to_dr(Core& core, const Op& op);
bool sys_mov_from_dr(Core& core, const Op& op);

// flag_instructions.cc
bool sys_pushf(Core& core, const Op& op);
bool sys_popf(Core& core, const Op& op);
bool sys_cli(Core& core, const Op& op);
bool sys_sti(Core& core, const Op& op);
bool sys_clac(Core& core, const Op& op);
bool sys_stac(Core& core, const Op& op);

// processor.cc: identification, time, model-specific registers, caches, waiting
bool sys_cpuid(Core& core, const Op& op);
bool sys_rdtsc(Core& core, const Op& op);
bool sys_rdtscp(Core& core, const Op& op);
bool sys_rdpmc(Core& core, const Op& op);
bool sys_rdpid(Core& core, const Op& op);
bool sys_rdmsr(Core& core, const Op& op);
bool sys_wrmsr(Core& core, const Op& op);
bool sys_invd(Core& core, const Op& op);
bool sys_wbinvd(Core& core, const Op& op);
bool sys_invlpg(Core& core, const Op& op);
bool sys_invpcid(Core& core, const Op& op);
bool sys_pause(Core& core, const Op& op);
bool sys_hlt(Core& core, const Op& op);      // leaves core.mp_state == Halted and kAttendMode set
bool sys_monitor(Core& core, const Op& op);
bool sys_mwait(Core& core, const Op& op);
bool sys_undefined(Core& core, const Op& op);  // #UD: UD0 UD1 UD2, VMCALL, VMX, SVM, RSM, GETSEC and what CPUID hides

// interrupts.cc
bool sys_int(Core& core, const Op& op);
bool sys_int3(Core& core, const Op& op);
bool sys_into(Core& core, const Op& op);
bool sys_int1(Core& core, const Op& op);

// iret.cc
bool sys_iret(Core& core, const Op& op);
bool sys_rsm(Core& core, const Op& op);  // smm.cc

// far_transfer.cc
bool sys_call_far_ptr(Core& core, const Op& op);
bool sys_call_far_mem(Core& core, const Op& op);
bool sys_jmp_far_ptr(Core& core, const Op& op);
bool sys_jmp_far_mem(Core& core, const Op& op);
bool sys_ret_far(Core& core, const Op& op);

// fast_calls.cc
bool sys_syscall(Core& core, const Op& op);
bool sys_sysret(Core& core, const Op& op);
bool sys_sysenter(Core& core, const Op& op);
bool sys_sysexit(Core& core, const Op& op);

}  // namespace atl::soft
