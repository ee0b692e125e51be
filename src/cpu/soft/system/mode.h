// Which mode the processor is in, and the consequences of changing RFLAGS.
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft {

inline bool real_mode(const Core& core) { return !(core.cr0 & kCr0PE); }
inline bool v86_mode(const Core& core) { return !real_mode(core) && (core.other_flags & kVM); }
/// Protected mode with selectors: neither real nor virtual-8086.
inline bool selector_mode(const Core& core) { return !real_mode(core) && !(core.other_flags & kVM); }
inline bool code64(const Core& core) { return core.code_size == CodeSize::k64; }
inline u8 iopl(const Core& core) { return core.other_flags >> 12 & 3; }

/// Sets RFLAGS and what follows from AC, TF, RF and IF. Who changes RFLAGS.VM calls update_mode() afterwards.
void set_flags(Core& core, u64 value);
/// After IF was set: makes the run loop deliver an interrupt that has been waiting. Those that come later tell it themselves.
void attend_enabled_interrupts(Core& core);
/// What POPF or IRET writes: `value` where the current privilege (and `opsize`) lets it, the old flags elsewhere.
/// RF is taken from `value` only if `with_rf`.
u64 merge_flags(const Core& core, u64 value, unsigned opsize, bool with_rf);

/// #GP(0) unless CPL is 0 (always the case in real mode, never in virtual-8086 mode).
inline bool require_cpl0(Core& core) { return core.cpl == 0 || core.raise(kGP, 0); }

}  // namespace atl::soft
