#include "devices/legacy/hpet.h"

#include <algorithm>

#include "base/endian.h"
#include "base/math.h"

namespace atl::devices {
namespace {

// Registers (2.3.1).
enum Register : u64 { kCapabilities = 0x00, kGeneral = 0x10, kStatus = 0x20, kCounter = 0xf0, kFirstTimer = 0x100 };
constexpr u64 kTimerBytes = 0x20;
enum TimerRegister : u64 { kConfig = 0x00, kComparator = 0x08 };

constexpr u64 kTick_ns = 10, kPeriod_fs = kTick_ns * 1'000'000;
constexpr u64 kEnable = 1 << 0, kLegacyReplacement = 1 << 1;  // general configuration (2.3.5)
// Timer configuration and capabilities (2.3.8).
constexpr u64 kLevel = 1 << 1, kInterruptEnable = 1 << 2, kPeriodic = 1 << 3, kSetValue = 1 << 6, kForce32 = 1 << 8;
constexpr u64 kRouteShift = 9, kRouteMask = 0x1f << kRouteShift;
constexpr u64 kWritable = kLevel | kInterruptEnable | kPeriodic | kSetValue | kForce32 | kRouteMask;
constexpr u64 kCan = 1 << 4 | 1 << 5 | u64{1} << (32 + 2);  // periodic, 64 bits, input 2
/// Interrupts come no closer together than this, however short a period the guest asks for.
constexpr u64 kShortest_ns = 20'000;

u64 width_mask(u64 config) { return config & kForce32 ? 0xffffffff : ~u64{0}; }

}  // namespace

Hpet::Hpet(DeviceClock& clock, Wiring wiring) : clock_(clock), wiring_(std::move(wiring)) {
  for (u32 i = 0; i < kTimers; ++i) timers_[i].alarm = clock.create_alarm([this, i] { on_alarm(i); });
}

Hpet::~Hpet() = default;

bool Hpet::enabled() const { return general_ & kEnable; }
bool Hpet::is_legacy(u32 index) const { return general_ & kLegacyReplacement && index < 2; }
u64 Hpet::counter() const { return enabled() ? (clock_.now_ns() - offset_ns_) / kTick_ns : halted_at_; }

void Hpet::forget() {
  for (u32 i = 0; i < kTimers; ++i) {
    set_level(i, false);
    Timer& timer = timers_[i];
    timer.alarm->cancel();
    timer.config = timer.period = 0;
    timer.comparator = ~u64{0};
    timer.due = false;
  }
  general_ = status_ = halted_at_ = offset_ns_ = 0;
}

void Hpet::reset() {
  Lock lock(mutex_);
  forget();
  set_legacy(false);
}

void Hpet::set_legacy(bool on) { wiring_.legacy_replacement(on); }

void Hpet::visit(Archive& archive) {
  Lock lock(mutex_);
  u64 now = counter();
  if (archive.loading()) forget();
  archive.field(1, "general", general_);
  archive.field(2, "status", status_);
  archive.field(3, "counter", now);
  for (u32 i = 0; i < kTimers; ++i) {
    Timer& timer = timers_[i];
    archive.part(16 + i, "timer", [&timer](Archive& part) {
      part.field(1, "config", timer.config);
      part.field(2, "comparator", timer.comparator);
      part.field(3, "period", timer.period);
      part.field(4, "due", timer.due);
      part.field(5, "deadline_ns", timer.deadline_ns);
    });
  }
  if (!archive.loading()) return;
  general_ &= kEnable | kLegacyReplacement;
  status_ &= (1 << kTimers) - 1;
  halted_at_ = now;
  offset_ns_ = clock_.now_ns() - now * kTick_ns;
  set_legacy(general_ & kLegacyReplacement);
  for (u32 i = 0; i < kTimers; ++i) {
    timers_[i].config &= kWritable & ~kSetValue;
    if (status_ & u64{1} << i) set_level(i, true);
    if (enabled() && timers_[i].due) timers_[i].alarm->arm_at(timers_[i].deadline_ns);
  }
}

u64 Hpet::bus_read(u64 offset, unsigned width) {
  Lock lock(mutex_);
  return read_register(offset & ~u64{7}) >> (8 * (offset & 7)) & byte_mask(width);
}

u64 Hpet::read_register(u64 at) {
  switch (at) {
    case kCapabilities: return kPeriod_fs << 32 | kBlockId;
    case kGeneral: return general_;
    case kStatus: return status_;
    case kCounter: return counter();
    default: break;
  }
  const u64 index = (at - kFirstTimer) / kTimerBytes;
  if (at < kFirstTimer || index >= kTimers) return 0;
  const Timer& timer = timers_[index];
  switch (at % kTimerBytes) {
    case kConfig: return timer.config | kCan;
    case kComparator: return timer.comparator & width_mask(timer.config);
    default: return 0;
  }
}

/// 32 and 64 bits at their natural places are all that software may write (2.2).
void Hpet::bus_write(u64 offset, u64 value, unsigned width) {
  if (width < 4 || offset % width) return;
  const unsigned shift = 8 * (offset & 7);
  Lock lock(mutex_);
  write_register(offset & ~u64{7}, value << shift, byte_mask(width) << shift);
}

void Hpet::write_register(u64 at, u64 value, u64 mask) {
  const u64 merged = (value & mask) | (read_register(at) & ~mask);
  switch (at) {
    case kGeneral: return write_general(merged);
    case kStatus: return write_status(value & mask);
    case kCounter:
      if (!enabled()) halted_at_ = merged;
      return;
    default: break;
  }
  const u64 index = (at - kFirstTimer) / kTimerBytes;
  if (at < kFirstTimer || index >= kTimers) return;
  if (at % kTimerBytes == kConfig) write_config(static_cast<u32>(index), merged);
  if (at % kTimerBytes == kComparator) write_comparator(static_cast<u32>(index), value, mask);
}

void Hpet::write_general(u64 value) {
  const u64 now = counter();
  const u64 changed = general_ ^ (value & (kEnable | kLegacyReplacement));
  if (changed & kEnable) {
    halted_at_ = now;
    for (u32 i = 0; i < kTimers; ++i) stop(i);
  }
  general_ ^= changed;
  if (changed & kLegacyReplacement) set_legacy(general_ & kLegacyReplacement);
  if (!(changed & kEnable) || !enabled()) return;
  offset_ns_ = clock_.now_ns() - now * kTick_ns;
  for (u32 i = 0; i < kTimers; ++i) start(i);
}

/// Write-1-to-clear; a level interrupt ends with it (2.3.6).
void Hpet::write_status(u64 value) {
  for (u32 i = 0; i < kTimers; ++i)
    if (value & status_ & u64{1} << i) set_level(i, false);
}

void Hpet::write_config(u32 index, u64 value) {
  Timer& timer = timers_[index];
  if (status_ & u64{1} << index) set_level(index, false);
  timer.config = value & kWritable;
  if (timer.config & kForce32) {
    timer.comparator &= 0xffffffff;
    timer.period &= 0xffffffff;
  }
  if (enabled()) start(index);
}

/// In periodic mode a write sets the period; with the set-value bit, which it clears, the comparator as well (2.3.9.2.2).
void Hpet::write_comparator(u32 index, u64 value, u64 mask) {
  Timer& timer = timers_[index];
  mask &= width_mask(timer.config);
  auto merge = [&](u64 old) { return (value & mask) | (old & ~mask & width_mask(timer.config)); };
  const bool periodic = timer.config & kPeriodic;
  if (!periodic || timer.config & kSetValue) timer.comparator = merge(timer.comparator);
  if (periodic) timer.period = merge(timer.period);
  timer.config &= ~kSetValue;
  if (enabled()) start(index);
}

void Hpet::start(u32 index) {
  timers_[index].due = true;
  arm(index);
}

void Hpet::stop(u32 index) {
  timers_[index].alarm->cancel();
  timers_[index].due = false;
  set_level(index, false);
}

/// Until the counter, in the timer's width, comes to the comparator next.
void Hpet::arm(u32 index) {
  Timer& timer = timers_[index];
  constexpr u64 kFar = u64{1} << 58;  // nobody waits for years; and the sum stays in range
  const u64 ticks = (timer.comparator - counter()) & width_mask(timer.config);
  timer.deadline_ns = clock_.now_ns() + std::min(ticks, kFar) * kTick_ns;
  timer.alarm->arm_at(timer.deadline_ns);
}

void Hpet::on_alarm(u32 index) {
  Lock lock(mutex_);
  Timer& timer = timers_[index];
  if (!enabled() || !timer.due) return;
  const u64 now_ns = clock_.now_ns(), mask = width_mask(timer.config);
  if (now_ns < timer.deadline_ns) return timer.alarm->arm_at(timer.deadline_ns);
  if (timer.config & kPeriodic && timer.period) {  // what was missed is missed
    const u64 periods = (now_ns - timer.deadline_ns) / kTick_ns / timer.period + 1, ticks = periods * timer.period;
    timer.comparator = (timer.comparator + ticks) & mask;
    timer.deadline_ns += std::min(ticks, u64{1} << 58) * kTick_ns;
    timer.alarm->arm_at(std::max(timer.deadline_ns, now_ns + kShortest_ns));
  } else if (timer.config & kForce32) {  // the counter's low half comes by again
    timer.deadline_ns += (mask + 1) * kTick_ns;
    timer.alarm->arm_at(timer.deadline_ns);
  } else {
    timer.due = false;
  }
  interrupt(index);
}

cpu::IrqLine* Hpet::line_of(u32 index) const {
  if (is_legacy(index)) return index == 0 ? &wiring_.irq0 : &wiring_.irq8;
  return (timers_[index].config & kRouteMask) >> kRouteShift == 2 ? &wiring_.input2 : nullptr;
}

void Hpet::interrupt(u32 index) {
  const Timer& timer = timers_[index];
  if (timer.config & kLevel) {
    status_ |= u64{1} << index;
    set_level(index, true);
  } else if (cpu::IrqLine* line = line_of(index); line && timer.config & kInterruptEnable) {
    line->pulse();
  }
}

void Hpet::set_level(u32 index, bool level) {
  if (!level && !(status_ & u64{1} << index)) return;
  if (!level) status_ &= ~(u64{1} << index);
  const Timer& timer = timers_[index];
  cpu::IrqLine* line = line_of(index);
  if (line && timer.config & kLevel && timer.config & kInterruptEnable) line->set(level);
}

}  // namespace atl::devices
