// Operands of system instructions: a general register, or the memory operand where the register field holds kNoReg.
#pragma once

#include "cpu/soft/exec/address.h"
#include "cpu/soft/exec/op.h"

namespace atl::soft {

/// 2, 4 or 8 bytes, zero-extended.
bool read_operand(Core& core, const Op& op, u8 reg, unsigned size, u64& value);
bool write_operand(Core& core, const Op& op, u8 reg, unsigned size, u64 value);
/// Writes 2 bytes (the rest stays), 4 (the upper half becomes zero) or 8.
void write_register(Core& core, u8 reg, unsigned size, u64 value);

inline void set_zero_flag(Core& core, bool on) {
  core.cc = static_cast<u16>((core.cc & ~(kZF << 8)) | (on ? kZF << 8 : 0));
}

/// EDX:EAX, as CPUID's relatives answer.
inline void set_edx_eax(Core& core, u64 value) {
  core.gpr[kRax] = value & 0xffffffff;
  core.gpr[kRdx] = value >> 32;
}
inline u64 edx_eax(const Core& core) { return (core.gpr[kRdx] & 0xffffffff) << 32 | (core.gpr[kRax] & 0xffffffff); }
inline u32 ecx(const Core& core) { return static_cast<u32>(core.gpr[kRcx]); }

}  // namespace atl::soft
