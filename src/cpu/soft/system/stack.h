// A stack that an event or a far transfer works on before it is known to succeed: the core changes only by commit().
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft {

class StackCursor {
 public:
  /// The core's current stack, or (second form) a stack that code at privilege `cpl` will use; a violation of the new
  /// stack's limit is #SS with its selector.
  explicit StackCursor(Core& core);
  StackCursor(Core& core, const Segment& ss, u64 sp, u8 cpl, bool long_stack);

  /// 2, 4 or 8 bytes. False after raising #SS or #PF.
  bool push(u64 value, unsigned size);
  bool pop(u64& value, unsigned size);
  /// Reads `size` bytes `offset` above the top, popping nothing.
  bool peek(u64 offset, u64& value, unsigned size);
  void skip(u64 bytes) { sp_ = (sp_ + bytes) & mask_; }
  void align16() { sp_ &= ~u64{15}; }

  u64 sp() const { return sp_; }
  /// Sets RSP, as wide as the stack segment has it.
  void commit();

 private:
  bool linear_of(u64 offset, unsigned size, u64& linear);

  Core& core_;
  Segment ss_;
  u64 sp_;
  u64 mask_;
  bool user_;
  bool long_stack_;
  u32 error_;
};

/// SS and SP that the TSS has for more privileged code at `cpl`, outside long mode; checked, faults are #TS or #SS.
bool inner_stack(Core& core, u8 cpl, Segment& ss, u64& sp);

/// RSP's part that a stack segment uses: all of it, ESP or SP.
u64 stack_mask(const Segment& ss, bool long_stack);

}  // namespace atl::soft
