#include "cpu/soft/translate/mode.h"

#include "cpu/soft/native/supported.h"

namespace atl::soft::translate {
namespace {

bool whole(const Segment& segment) {
  constexpr u16 kWritableUpward = 0x12, kMask = 0x1e;  // S, not code, not expand-down, writable
  return !segment.unusable && segment.limit == 0xffffffff && (segment.attributes & kMask) == kWritableUpward;
}

bool flat_code(const Core& core) { return core.seg[kCs].base == 0 && core.seg[kCs].limit == 0xffffffff; }

}  // namespace

Mode mode_of(const Core& core) {
  if (core.tlb.data_set == kAlignedSet || core.code_size == CodeSize::k16) return kNoMode;
  if (core.cpl == 1 || core.cpl == 2) return kNoMode;  // code of the supervisor's sets is CPL 0's
  Mode mode = static_cast<Mode>(static_cast<u8>(core.code_size) | core.tlb.data_set << kModeSetShift);
  if (core.code_size == CodeSize::k64) return mode;
  if (!flat_code(core) || !core.flat_data || !core.seg[kSs].db()) return kNoMode;
  return whole(core.seg[kFs]) && whole(core.seg[kGs]) ? static_cast<Mode>(mode | kModeFlatFsGs) : mode;
}

VectorLevel vectors_allowed(const Core& core) {
  constexpr u64 kAvxState = 6, kWideState = 0xe6;  // XCR0: SSE and AVX; and what AVX-512 adds
  if ((core.cr0 & (kCr0EM | kCr0TS)) || !(core.cr4 & kCr4OSFXSR)) return kNoVectors;
  if (!core.host_avx) return kNarrowVectors;
  if (!(core.cr4 & kCr4OSXSAVE) || (core.xcr0 & kAvxState) != kAvxState) return kNoVectors;
  return (core.xcr0 & kWideState) == kWideState && host_has_avx512() ? kWideVectors : kNarrowVectors;
}

}  // namespace atl::soft::translate
