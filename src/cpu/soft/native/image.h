// The extended state in Core::ext: the FXSAVE64 image, the XSAVE header, the upper halves of YMM, the opmask registers, the upper
// halves of ZMM0 to ZMM15 and ZMM16 to ZMM31 (SDM vol. 1, 10.5, 13.4, 13.5). The last three are all zero, the processor's initial
// state, unless Core::wide_vectors says otherwise.
//
// FIP and FDP are kept as 64-bit offsets of the guest; FCS and FDS are not kept and read as 0 (CPUID says so, bit 13 of
// 7.EBX). The host's own pointers, which name our code, never get here. The header's XSTATE_BV is not kept up to date.
#pragma once

#include <algorithm>

#include "base/endian.h"
#include "cpu/soft/core.h"

namespace atl::soft::image {

inline constexpr unsigned kFcw = 0, kFsw = 2, kFtw = 4, kFop = 6, kFip = 8, kFdp = 16, kMxcsr = 24, kMxcsrMask = 28, kSt = 32,
                          kXmm = 160, kLegacyEnd = 416, kHeader = 512, kYmmHigh = 576, kYmmEnd = 832, kOpmask = 1088, kZmmHigh = 1152,
                          kZmm16 = 1664, kEnd = 2688;
inline constexpr u16 kFswErrorSummary = 0x80, kFswBusy = 0x8000, kFswTop = 7 << 11, kFswExceptions = 0x3f;
inline constexpr u32 kMxcsrDefault = 0x1f80, kMxcsrValid = 0xffff, kMxcsrMasks = 0x1f80;

inline u8* bytes(Core& core) { return core.ext.xsave.data(); }
inline const u8* bytes(const Core& core) { return core.ext.xsave.data(); }

inline u16 fsw(const Core& core) { return load_le<u16>(bytes(core) + kFsw); }
inline u16 fcw(const Core& core) { return load_le<u16>(bytes(core) + kFcw); }
inline u32 mxcsr(const Core& core) { return load_le<u32>(bytes(core) + kMxcsr); }
inline unsigned top(const Core& core) { return fsw(core) >> 11 & 7; }
inline void set_fsw(Core& core, u16 value) { store_le(bytes(core) + kFsw, value); }
inline void set_fcw(Core& core, u16 value) { store_le(bytes(core) + kFcw, value); }
inline void set_mxcsr(Core& core, u32 value) { store_le(bytes(core) + kMxcsr, value); }

/// ST(i): ten bytes, then six that are reserved.
inline u8* st(Core& core, unsigned i) { return bytes(core) + kSt + 16 * i; }
inline u8* xmm(Core& core, unsigned i) { return bytes(core) + kXmm + 16 * i; }
inline u8* ymm_high(Core& core, unsigned i) { return bytes(core) + kYmmHigh + 16 * i; }
inline u8* opmask(Core& core, unsigned i) { return bytes(core) + kOpmask + 8 * i; }
inline u8* zmm_high(Core& core, unsigned i) { return bytes(core) + kZmmHigh + 32 * i; }       // ZMM0 to ZMM15
inline u8* zmm16(Core& core, unsigned i) { return bytes(core) + kZmm16 + 64 * (i - 16); }    // ZMM16 to ZMM31

/// The error summary and busy bits follow from flags and masks, whatever was loaded.
inline void update_error_summary(Core& core) {
  u16 value = fsw(core) & static_cast<u16>(~(kFswErrorSummary | kFswBusy));
  if (value & ~fcw(core) & kFswExceptions) value |= kFswErrorSummary | kFswBusy;
  set_fsw(core, value);
}

/// Moves the top of the stack. The registers keep their contents, but the image has them in stack order.
inline void set_top(Core& core, unsigned new_top) {
  u8* first = st(core, 0);
  std::rotate(first, first + 16 * ((new_top - top(core)) & 7), first + 128);
  set_fsw(core, static_cast<u16>((fsw(core) & ~kFswTop) | new_top << 11));
}

/// FNINIT (SDM vol. 2): control, status, tags and pointers; the registers' contents stay.
inline void init_x87(Core& core) {
  set_top(core, 0);
  std::fill_n(bytes(core), kMxcsr, 0);
  set_fcw(core, 0x37f);
}

}  // namespace atl::soft::image
