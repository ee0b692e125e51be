#include "cpu/soft/system/mode.h"

#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/debug.h"

namespace atl::soft {
namespace {

bool flat(const Segment& segment) {
  constexpr u16 kWritableUpward = 0x12, kMask = 0x1e;  // S, not code, not expand-down, writable
  return !segment.unusable && segment.base == 0 && segment.limit == 0xffffffff && (segment.attributes & kMask) == kWritableUpward;
}

CodeSize code_size_of(const Core& core) {
  if (core.long_mode && core.seg[kCs].l()) return CodeSize::k64;
  return core.seg[kCs].db() ? CodeSize::k32 : CodeSize::k16;
}

u64 forget_resume(const Core& core, u64 flags) { return has_instruction_breakpoint(core) ? flags : flags & ~u64{kRF}; }

}  // namespace

void attend_enabled_interrupts(Core& core) {
  core.interrupt_refused = 0;
  if (interrupt_pending(core)) core.attention.fetch_or(kAttendInterrupt, std::memory_order_relaxed);
}

void update_mode(Core& core) {
  core.long_mode = core.efer & kEferLMA;
  core.paging = core.cr0 & kCr0PG;
  core.code_size = code_size_of(core);
  // SS.DPL equals CPL in every mode but real mode with leftovers of protected mode, and virtual-8086 mode is CPL 3.
  core.cpl = real_mode(core) ? 0 : v86_mode(core) ? 3 : core.seg[kSs].dpl();
  core.flat_data = core.code_size == CodeSize::k64 || (flat(core.seg[kDs]) && flat(core.seg[kEs]) && flat(core.seg[kSs]));
  update_access_set(core);
}

void set_flags(Core& core, u64 value) {
  const u64 changed = value ^ core.other_flags;
  // RF stops instruction breakpoints only; without them the next instruction would clear it unseen.
  if (value & kRF) value = forget_resume(core, value);
  core.set_rflags(value);
  if (changed & kAC) update_access_set(core);
  if (changed & value & kIF) attend_enabled_interrupts(core);
  attend_stepping(core);
}

u64 merge_flags(const Core& core, u64 value, unsigned opsize, bool with_rf) {
  u64 mask = kArithmeticFlags | kTF | kDF | kNT | kAC | kID;
  if (with_rf) mask |= kRF;
  if (core.cpl == 0) mask |= kIOPL;
  if (core.cpl <= iopl(core)) mask |= kIF;
  if (opsize == 2) mask &= 0xffff;
  u64 merged = (core.rflags() & ~mask) | (value & mask);
  return with_rf || opsize == 2 ? merged : merged & ~u64{kRF};
}

}  // namespace atl::soft
