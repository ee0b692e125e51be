// Extended state as images in memory: FXSAVE, XSAVE and its variants, saved machines (SDM vol. 1, 10.5 and chapter 13).
//
// Components: x87, SSE, AVX, and the three of AVX-512. x87 and SSE always count as in use, the others when they are not zero.
#pragma once

#include "base/result.h"
#include "cpu/soft/core.h"

namespace atl::soft {

/// XINUSE, as XGETBV with ECX = 1 shows it (and-ed with XCR0 there).
u64 xstate_in_use(const Core& core);

/// For saved state: writes the components above, in standard format, and leaves others in `area` as they are.
void export_xsave(const Core& core, XsaveArea& area);
/// Refuses, naming the field, reserved MXCSR bits and other formats.
Status check_xsave(const XsaveArea& area);
/// Takes an area that check_xsave accepts; components it does not have get their initial values.
void import_xsave(Core& core, const XsaveArea& area);

}  // namespace atl::soft
