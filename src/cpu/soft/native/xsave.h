// Extended state as images in memory: FXSAVE, XSAVE and its variants, saved machines (SDM vol. 1, 10.5 and chapter 13).
//
// Components: x87, SSE, AVX. x87 and SSE always count as in use; AVX does when an upper half is not zero.
#pragma once

#include "base/result.h"
#include "cpu/soft/core.h"

namespace atl::soft {

/// XINUSE, as XGETBV with ECX = 1 shows it (and-ed with XCR0 there).
u64 xstate_in_use(const Core& core);

/// For saved state: the standard format, with a header that says what is there.
void export_xsave(const Core& core, XsaveArea& area);
/// Missing components get their initial values. Refuses, naming the field, reserved MXCSR bits and unknown components.
Status import_xsave(Core& core, const XsaveArea& area);

}  // namespace atl::soft
