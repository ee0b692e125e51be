#include "cpu/soft/exec/address.h"

namespace atl::soft {

namespace {

constexpr u8 kTypeCode = 8, kTypeExpandDown = 4, kTypeWritable = 2, kTypeReadable = 2;

bool raise_segment(Core& core, u8 seg) { return core.raise(segment_fault_vector(seg), 0); }

/// SDM vol. 3, 5.3: the effective limit includes its own byte; expand-down segments hold what lies above it.
bool inside_limit(const Segment& segment, u64 offset, unsigned size) {
  u64 last = offset + size - 1;
  bool code = segment.type() & kTypeCode;
  if (code || !(segment.type() & kTypeExpandDown)) return last <= segment.limit;
  u64 top = segment.db() ? 0xffffffff : 0xffff;
  return offset > segment.limit && last <= top;
}

bool allows(const Segment& segment, bool write) {
  bool code = segment.type() & kTypeCode;
  if (write) return !code && segment.type() & kTypeWritable;
  return !code || segment.type() & kTypeReadable;
}

bool long_linear(Core& core, u8 seg, u64 offset, unsigned size, u64& linear) {
  linear = offset + (seg == kFs || seg == kGs ? core.seg[seg].base : 0);
  if (is_canonical(linear) && is_canonical(linear + size - 1)) [[likely]] return true;
  return raise_segment(core, seg);
}

}  // namespace

bool segment_linear(Core& core, u8 seg, u64 offset, unsigned size, bool write, u64& linear) {
  if (core.code_size == CodeSize::k64) return long_linear(core, seg, offset, size, linear);
  const Segment& segment = core.seg[seg];
  linear = static_cast<u32>(segment.base + offset);
  if (segment.unusable || !inside_limit(segment, offset, size)) return raise_segment(core, seg);
  if ((core.cr0 & kCr0PE) && !(core.other_flags & kVM) && !allows(segment, write)) return raise_segment(core, seg);
  return true;
}

}  // namespace atl::soft
