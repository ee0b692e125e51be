// Instructions too rare or too long for handlers of their own: functions with the shape of system instructions.
#pragma once

#include "cpu/soft/exec/op.h"

namespace atl::soft {

/// For operands whose size is known only at run time.
inline void set_reg_sized(Core& core, u8 number, u64 value, unsigned size) {
  u64& r = core.gpr[number];
  if (size == 8) r = value;
  if (size == 4) r = static_cast<u32>(value);
  if (size == 2) r = (r & ~u64{0xffff}) | (value & 0xffff);
}

// stack.cc
bool run_leave(Core& core, const Op& op);
bool run_pop_mem(Core& core, const Op& op);
bool run_pusha(Core& core, const Op& op);
bool run_popa(Core& core, const Op& op);
bool run_enter(Core& core, const Op& op);

// decimal.cc: imm is the base of AAM and AAD
bool run_daa(Core& core, const Op& op);
bool run_das(Core& core, const Op& op);
bool run_aaa(Core& core, const Op& op);
bool run_aas(Core& core, const Op& op);
bool run_aam(Core& core, const Op& op);
bool run_aad(Core& core, const Op& op);

// misc.cc
bool run_xlat(Core& core, const Op& op);
bool run_bound(Core& core, const Op& op);
bool run_crc32(Core& core, const Op& op);      // extra: src is a register (a byte register's place if opsize is 1)
bool run_rdrand(Core& core, const Op& op);
bool run_rdseed(Core& core, const Op& op);
bool run_salc(Core& core, const Op& op);
bool run_loop(Core& core, const Op& op);       // LOOP: cond 2, LOOPE: 1, LOOPNE: 0, JrCXZ: 3; imm as in direct branches
bool run_clflush(Core& core, const Op& op);    // CLFLUSH CLFLUSHOPT CLWB: checks the address as a read of one byte
bool run_fence(Core& core, const Op& op);

// bmi.cc: VEX-coded integer instructions; dst, src, src2 as written, kNoReg in the r/m one's place is memory
bool run_andn(Core& core, const Op& op);
bool run_bextr(Core& core, const Op& op);
bool run_blsi(Core& core, const Op& op);
bool run_blsr(Core& core, const Op& op);
bool run_blsmsk(Core& core, const Op& op);
bool run_bzhi(Core& core, const Op& op);
bool run_pdep(Core& core, const Op& op);
bool run_pext(Core& core, const Op& op);
bool run_sarx(Core& core, const Op& op);
bool run_shlx(Core& core, const Op& op);
bool run_shrx(Core& core, const Op& op);
bool run_rorx(Core& core, const Op& op);
bool run_mulx(Core& core, const Op& op);
bool run_adcx(Core& core, const Op& op);
bool run_adox(Core& core, const Op& op);

// atomic.cc: read-modify-write of memory that other vCPUs see as one step
bool run_xchg_mem(Core& core, const Op& op);
bool run_xadd(Core& core, const Op& op);       // extra: the destination is a register, also in CMPXCHG
bool run_cmpxchg(Core& core, const Op& op);
bool run_cmpxchg8b(Core& core, const Op& op);
bool run_cmpxchg16b(Core& core, const Op& op);
/// LOCK with ADD OR ADC SBB AND SUB XOR (by the number in the opcode), INC DEC NEG NOT, BTS BTR BTC.
SystemFunction locked_alu(u8 number, u8 size, bool immediate);
SystemFunction locked_unary(u8 number, u8 size);        // flag_ops.h Unary
SystemFunction locked_bit(u8 number, u8 size, bool immediate);  // flag_ops.h BitTest

// string.cc and port_io.cc: by opcode and size; a REP prefix is in op.rep
SystemFunction string_function(u8 opcode, u8 size);
bool run_in(Core& core, const Op& op);         // port: imm if extra, else DX
bool run_out(Core& core, const Op& op);
bool run_ins(Core& core, const Op& op);
bool run_outs(Core& core, const Op& op);

}  // namespace atl::soft
