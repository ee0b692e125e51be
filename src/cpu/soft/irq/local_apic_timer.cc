// The local APIC's timer (SDM vol. 3, 11.5.4), counting guest nanoseconds: the bus clock and the TSC both run at 1 GHz.
#include <algorithm>

#include "cpu/apic_spec.h"
#include "cpu/soft/core.h"
#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/soft_vm.h"

namespace atl::soft {

namespace {

/// Shorter periods would let a guest keep the timer thread busy for nothing.
constexpr u64 kShortestPeriodNs = 50'000;

constexpr u32 divider_shift(u32 divide_register) {
  return (((divide_register & 3) | (divide_register & 8) >> 1) + 1) & 7;
}

}  // namespace

u64 LocalApic::count_to_ns(u32 count) const { return u64{count} << divider_shift(reg(kApicTimerDivide)); }

u64 LocalApic::period_ns() const { return std::max(count_to_ns(reg(kApicTimerInitial)), kShortestPeriodNs); }

u32 LocalApic::timer_mode() const { return reg(kApicLvtTimer) & kLvtTimerMode; }

u32 LocalApic::current_count() const {
  Lock lock(timer_mutex_);
  u64 now = vm_.clock.now_ns();
  if (timer_mode() == kLvtTscDeadline || deadline_ns_ == TimerQueue::kNever || deadline_ns_ <= now) return 0;
  u64 left = (deadline_ns_ - now) >> divider_shift(reg(kApicTimerDivide));
  return static_cast<u32>(std::min<u64>(left, reg(kApicTimerInitial)));
}

void LocalApic::set_deadline(u64 deadline_ns) {
  deadline_ns_ = deadline_ns;
  timers_.arm(timer_id_, deadline_ns);
}

void LocalApic::start_timer() { start_timer_at_count(reg(kApicTimerInitial)); }

void LocalApic::start_timer_at_count(u32 count) {
  if (timer_mode() == kLvtTscDeadline) return;
  Lock lock(timer_mutex_);
  set_deadline(count == 0 ? TimerQueue::kNever : vm_.clock.now_ns() + count_to_ns(count));
}

void LocalApic::change_divider(u32 value) {
  u32 count = current_count();
  set_reg(kApicTimerDivide, value);
  if (count) start_timer_at_count(count);
}

void LocalApic::timer_mode_changed(u32 lvt_before) {
  u32 before = lvt_before & kLvtTimerMode;
  if (before == timer_mode() || (before != kLvtTscDeadline && timer_mode() != kLvtTscDeadline)) return;
  // Changing between TSC-deadline mode and the others disarms the timer.
  set_reg(kApicTimerInitial, 0);
  Lock lock(timer_mutex_);
  tsc_deadline_ = 0;
  set_deadline(TimerQueue::kNever);
}

u64 LocalApic::tsc_deadline() const {
  Lock lock(timer_mutex_);
  return tsc_deadline_;
}

void LocalApic::set_tsc_deadline(u64 tsc) {
  if (timer_mode() != kLvtTscDeadline) return;
  u64 deadline_ns = tsc_to_ns(tsc);
  bool past = deadline_ns <= vm_.clock.now_ns();  // then the timer thread need not hear of it
  {
    Lock lock(timer_mutex_);
    tsc_deadline_ = past ? 0 : tsc;
    set_deadline(past ? TimerQueue::kNever : deadline_ns);
  }
  if (past) deliver_local(kApicLvtTimer);
}

void LocalApic::tsc_offset_changed() {
  Lock lock(timer_mutex_);
  if (timer_mode() == kLvtTscDeadline && tsc_deadline_) set_deadline(tsc_to_ns(tsc_deadline_));
}

u64 LocalApic::tsc_to_ns(u64 tsc) const {
  if (tsc == 0) return TimerQueue::kNever;
  // A deadline behind the guest's present TSC has passed; the subtraction would wrap for a TSC set ahead of the clock.
  u64 now = vm_.clock.now_ns();
  u64 now_tsc = now + core_.msr.tsc_offset;
  return tsc <= now_tsc ? now : now + std::min(tsc - now_tsc, TimerQueue::kNever - 1 - now);
}

bool LocalApic::expire(u64 now_ns) {
  Lock lock(timer_mutex_);
  if (deadline_ns_ > now_ns) return false;
  if (timer_mode() == kLvtPeriodic) {
    u64 late = now_ns - deadline_ns_;  // periods that were missed while the host was busy are lost, as interrupts would merge
    set_deadline(now_ns + period_ns() - late % period_ns());
  } else {
    tsc_deadline_ = 0;
    set_deadline(TimerQueue::kNever);
  }
  return true;
}

void LocalApic::timer_due(u64 now_ns) {
  if (expire(now_ns)) deliver_local(kApicLvtTimer);
}

void LocalApic::fire_timer_if_due() { timer_due(vm_.clock.now_ns()); }

u64 LocalApic::timer_deadline_ns() const {
  Lock lock(timer_mutex_);
  return deadline_ns_;
}

}  // namespace atl::soft
