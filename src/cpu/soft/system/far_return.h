// What RET far and IRET share: checks of the code and stack segments that a return goes to (SDM vol. 2, RET and IRET).
#pragma once

#include "cpu/soft/core.h"
#include "cpu/soft/system/segments.h"

namespace atl::soft {

/// Where a return in protected or long mode goes.
struct ReturnTarget {
  u16 selector = 0;
  Descriptor code;
  u64 rip = 0;

  u8 cpl() const { return selector & 3; }
};

/// Reads and checks the code segment and RIP of `out.selector` and `out.rip`.
bool check_return_code(Core& core, ReturnTarget& out);
/// The stack segment of a return; null is allowed for 64-bit code below CPL 3.
bool check_return_stack(Core& core, u16 selector, const ReturnTarget& target, Segment& out);
/// CS and next_rip, then what depends on the new CPL. SS is set already.
void finish_return(Core& core, const ReturnTarget& target);
/// Before CPL rises to `cpl`: data segments that the new CPL may not use become null, and null selectors 0, whatever their RPL was.
void drop_inner_segments(Core& core, u8 cpl);
/// RSP as code of the target's size has it, with SS loaded.
void set_return_stack(Core& core, const Segment& ss, u64 sp, bool long_target);

/// #GP(0) unless `rip` is inside `code`'s limit, or canonical for 64-bit code. Takes RIP's wrap of smaller code into account.
bool check_code_offset(Core& core, const Descriptor& code, u64 rip);

}  // namespace atl::soft
