// From an Op's memory operand to a linear address: the sum, the segment, its checks (SDM vol. 1, 3.7.5; vol. 3, 5.3-5.4).
#pragma once

#include "cpu/soft/exec/op.h"

namespace atl::soft {

inline u64 address_mask(u8 addrsize) {
  return addrsize == 8 ? ~u64{0} : (u64{1} << addrsize * 8) - 1;
}

/// Offset in the segment, cut to the address size.
inline u64 effective_address(const Core& core, const Op& op) {
  const u64* regs = register_file(core);
  return (regs[op.base] + (regs[op.index] << op.scale) + static_cast<u64>(op.disp)) & address_mask(op.addrsize);
}

inline bool is_canonical(u64 linear) { return static_cast<u64>(static_cast<i64>(linear << 16) >> 16) == linear; }

/// `offset` in segment register `seg` to a linear address, for an access of `size` bytes: canonical, limit and type checks;
/// false after raising #GP(0), or #SS(0) for the stack segment.
bool segment_linear(Core& core, u8 seg, u64 offset, unsigned size, bool write, u64& linear);

/// The memory operand of `op`; `displace` is added to the offset (second half of a far pointer, bit strings).
inline bool operand_linear(Core& core, const Op& op, unsigned size, bool write, u64& linear, u64 displace = 0) {
  u64 offset = (effective_address(core, op) + displace) & address_mask(op.addrsize);
  return segment_linear(core, op.seg, offset, size, write, linear);
}

/// The segment whose violation is #SS: SS itself, or in 64-bit mode RSP and RBP based addresses, which the decoder gives kSs.
inline u8 segment_fault_vector(u8 seg) { return seg == kSs ? u8{kSSFault} : u8{kGP}; }

}  // namespace atl::soft
