#include "cpu/soft/system/stack.h"

#include "cpu/soft/exec/address.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/segments.h"
#include "cpu/soft/system/task_switch.h"

namespace atl::soft {

u64 stack_mask(const Segment& ss, bool long_stack) {
  if (long_stack) return ~u64{0};
  return ss.db() ? 0xffffffff : 0xffff;
}

StackCursor::StackCursor(Core& core)
    : StackCursor(core, core.seg[kSs], core.gpr[kRsp], core.cpl, code64(core)) {
  error_ = 0;
}

StackCursor::StackCursor(Core& core, const Segment& ss, u64 sp, u8 cpl, bool long_stack)
    : core_(core), ss_(ss), mask_(stack_mask(ss, long_stack)), user_(cpl == 3), long_stack_(long_stack),
      error_(selector_error(ss.selector)) {
  sp_ = sp & mask_;
}

bool StackCursor::linear_of(u64 offset, unsigned size, u64& linear) {
  linear = long_stack_ ? offset : static_cast<u32>(ss_.base + offset);
  bool inside = long_stack_ ? is_canonical(offset) && is_canonical(offset + size - 1) : segment_holds(ss_, offset, size);
  return inside || core_.raise(kSSFault, error_);
}

bool StackCursor::push(u64 value, unsigned size) {
  u64 top = (sp_ - size) & mask_;
  u64 linear = 0;
  if (!linear_of(top, size, linear) || !write_as(core_, user_, linear, &value, size)) return false;
  sp_ = top;
  return true;
}

bool StackCursor::peek(u64 offset, u64& value, unsigned size) {
  u64 linear = 0;
  value = 0;
  return linear_of((sp_ + offset) & mask_, size, linear) && read_as(core_, user_, linear, &value, size);
}

bool StackCursor::pop(u64& value, unsigned size) {
  if (!peek(0, value, size)) return false;
  skip(size);
  return true;
}

void StackCursor::commit() {
  u64& rsp = core_.gpr[kRsp];
  rsp = mask_ == 0xffff ? (rsp & ~mask_) | sp_ : sp_;
}

bool inner_stack(Core& core, u8 cpl, Segment& ss, u64& sp) {
  u16 selector = 0;
  if (!tss_stack(core, cpl, selector, sp)) return false;
  if (null_selector(selector)) return core.raise(kTS, selector_error(selector));
  Descriptor descriptor;
  if (!read_descriptor(core, selector, kTS, descriptor)) return false;
  if (!check_stack_descriptor(core, selector, descriptor, cpl, kTS) || !set_accessed(core, descriptor)) return false;
  ss = make_segment(selector, descriptor);
  return true;
}

}  // namespace atl::soft
