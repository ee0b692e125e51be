#include "cpu/soft/irq/pit.h"

#include <algorithm>

namespace atl::soft {

namespace {

constexpr u64 kNsPerSecond = 1'000'000'000;
/// Shorter periods would let a guest keep the timer thread busy for nothing.
constexpr u64 kShortestPeriodNs = 50'000;
/// More ticks than these are not owed: a second of Linux's at 250 Hz.
constexpr u32 kMostOwed = 250;

// Access modes of the control word's bits 5:4.
constexpr u8 kLatch = 0, kLowByte = 1, kHighByte = 2, kBothBytes = 3;

u16 to_bcd(u32 value) {
  u32 bcd = 0;
  for (int shift = 0; shift < 16; shift += 4, value /= 10) bcd |= value % 10 << shift;
  return static_cast<u16>(bcd);
}

u32 from_bcd(u32 bcd) {
  u32 value = 0;
  for (int shift = 12; shift >= 0; shift -= 4) value = value * 10 + (bcd >> shift & 15);
  return value;
}

}  // namespace

// -- one channel -----------------------------------------------------------------------------------------------------------

u64 PitChannel::ticks(u64 now_ns) const {
  u64 elapsed = now_ns > start_ns_ ? now_ns - start_ns_ : 0;
  return static_cast<u64>(u128{elapsed} * kHz / kNsPerSecond);
}

u64 PitChannel::time_of(u64 tick) const {
  return start_ns_ + static_cast<u64>((u128{tick} * kNsPerSecond + kHz - 1) / kHz);
}

bool PitChannel::counting() const { return loaded_ && (triggered_ || (mode_ != 1 && mode_ != 5)); }

void PitChannel::write_control(u8 control, u64 now_ns) {
  access_ = control >> 4 & 3;
  mode_ = control >> 1 & 7;
  if (mode_ > 5) mode_ &= 3;  // 6 and 7 are 2 and 3
  bcd_ = control & 1;
  loaded_ = triggered_ = write_high_next_ = read_high_next_ = status_latched_ = false;
  latched_bytes_ = 0;
  start_ns_ = now_ns;
}

void PitChannel::write_count(u8 value, u64 now_ns) {
  switch (access_) {
    case kLowByte: return load(value, now_ns);
    case kHighByte: return load(u32{value} << 8, now_ns);
    default: break;
  }
  if (write_high_next_) {
    load(write_low_ | u32{value} << 8, now_ns);
  } else {
    write_low_ = value;
  }
  write_high_next_ = !write_high_next_;
}

void PitChannel::load(u32 value, u64 now_ns) {
  count_ = bcd_ ? from_bcd(value) : value;
  bool restarts = !loaded_ || mode_ == 0 || mode_ == 4;
  loaded_ = true;
  // In modes 2 and 3 the new count should wait for the end of the present period; nobody depends on it, and starting afresh
  // keeps the period a function of one start time.
  if (restarts || mode_ == 2 || mode_ == 3) start_ns_ = now_ns;
}

u16 PitChannel::counter(u64 now_ns) const {
  u32 period = reload();
  u64 passed = counting() && gate_or_triggered() ? ticks(now_ns) : 0;
  u32 left = 0;
  switch (mode_) {
    case 2: left = period - static_cast<u32>(passed % period); break;
    case 3: left = period - static_cast<u32>(2 * passed % period); break;  // counts down by two
    default: left = static_cast<u32>((period - passed) & 0xffff); break;   // goes on below zero
  }
  return bcd_ ? to_bcd(left % 10000) : static_cast<u16>(left);
}

bool PitChannel::output(u64 now_ns) const {
  u32 period = reload();
  u64 passed = ticks(now_ns);
  if (!counting()) return mode_ != 0;
  switch (mode_) {
    case 0:
    case 1: return passed >= period;
    case 2: return !gate_ || passed % period != period - 1;
    case 3: return !gate_ || passed % period < (period + 1) / 2;
    default: return passed != period;
  }
}

u64 PitChannel::next_rising_edge(u64 now_ns) const {
  if (!counting() || !gate_or_triggered()) return TimerQueue::kNever;
  u32 period = reload();
  u64 passed = ticks(now_ns);
  switch (mode_) {
    case 0:
    case 1: return passed < period ? time_of(period) : TimerQueue::kNever;
    case 2:
    case 3: return time_of((passed / period + 1) * period);
    default: return passed <= period ? time_of(u64{period} + 1) : TimerQueue::kNever;
  }
}

u64 PitChannel::periods(u64 from_ns, u64 to_ns) const {
  if (!counting() || (mode_ != 2 && mode_ != 3)) return 0;
  return ticks(to_ns) / reload() - ticks(from_ns) / reload();
}

void PitChannel::latch_count(u64 now_ns) {
  if (latched_bytes_) return;
  latch_ = counter(now_ns);
  latched_bytes_ = access_ == kBothBytes ? 2 : 1;
}

void PitChannel::latch_status(u64 now_ns) {
  if (status_latched_) return;
  status_latch_ = status(now_ns);
  status_latched_ = true;
}

u8 PitChannel::status(u64 now_ns) const {
  return static_cast<u8>((output(now_ns) ? 0x80 : 0) | (loaded_ ? 0 : 0x40) | access_ << 4 | mode_ << 1 | (bcd_ ? 1 : 0));
}

u8 PitChannel::read(u64 now_ns) {
  if (status_latched_) {
    status_latched_ = false;
    return status_latch_;
  }
  u16 value = latched_bytes_ ? latch_ : counter(now_ns);
  bool high = access_ == kHighByte || (access_ == kBothBytes && read_high_next_);
  if (access_ == kBothBytes) read_high_next_ = !read_high_next_;
  if (latched_bytes_) --latched_bytes_;
  return static_cast<u8>(high ? value >> 8 : value);
}

void PitChannel::set_gate(bool gate, u64 now_ns) {
  bool rising = gate && !gate_;
  gate_ = gate;
  if (!rising) return;
  // A rising gate triggers modes 1 and 5 and restarts 2 and 3. Modes 0 and 4 should only be held while it is low; they
  // restart here too, which calibration loops (gate up, load, wait) cannot tell apart.
  triggered_ = true;
  start_ns_ = now_ns;
}

void PitChannel::reset() {
  bool gate = gate_;
  *this = PitChannel();
  gate_ = gate;
}

void PitChannel::visit(Archive& a) {
  a.field(1, "mode", mode_);
  a.field(2, "access", access_);
  a.field(3, "bcd", bcd_);
  a.field(4, "gate", gate_);
  a.field(5, "loaded", loaded_);
  a.field(6, "write_high_next", write_high_next_);
  a.field(7, "read_high_next", read_high_next_);
  a.field(8, "write_low", write_low_);
  a.field(9, "count", count_);
  a.field(10, "start_ns", start_ns_);
  a.field(11, "triggered", triggered_);
  a.field(12, "latched_bytes", latched_bytes_);
  a.field(13, "latch", latch_);
  a.field(14, "status_latched", status_latched_);
  a.field(15, "status_latch", status_latch_);
  if (!a.loading()) return;
  if (mode_ > 5 || access_ > 3 || count_ > 0xffff || latched_bytes_ > 2) {
    a.fail("PIT channel state out of range");
    reset();
  }
}

// -- the chip --------------------------------------------------------------------------------------------------------------

Pit::Pit(VmClock& clock, TimerQueue& timers, std::function<void(bool)> on_output, std::function<bool()> waits)
    : clock_(clock), timers_(timers), on_output_(std::move(on_output)), waits_(std::move(waits)), timer_(timers.add(*this)) {
  speaker_port_.pit = this;
  reset();
}

Pit::~Pit() { timers_.remove(timer_); }

void Pit::reset() {
  Lock lock(mutex_);
  for (PitChannel& channel : channels_) channel.reset();
  channels_[2].set_gate(false, clock_.now_ns());
  speaker_bits_ = 0;
  due_ns_ = TimerQueue::kNever;
  owed_ = 0;
  timers_.disarm(timer_);
}

u64 Pit::bus_read(u64 offset, unsigned) {
  Lock lock(mutex_);
  return offset < 3 ? channels_[offset].read(clock_.now_ns()) : 0;
}

void Pit::bus_write(u64 offset, u64 value, unsigned) {
  bool output = false, changed = true;
  {
    Lock lock(mutex_);
    u64 now_ns = clock_.now_ns();
    if (offset == 3) {
      changed = write_control(static_cast<u8>(value), now_ns);
    } else {
      channels_[offset & 3].write_count(static_cast<u8>(value), now_ns);
      changed = offset == 0;
    }
    if (changed) output = reprogram(now_ns);
  }
  if (changed) on_output_(output);
}

/// Returns whether channel 0 may have changed.
bool Pit::write_control(u8 value, u64 now_ns) {
  u32 select = value >> 6;
  if (select == 3) {  // read-back command: low bits select channels, the inverted ones what to latch
    for (u32 i = 0; i < 3; ++i) {
      if (!(value >> (i + 1) & 1)) continue;
      if (!(value & 0x20)) channels_[i].latch_count(now_ns);
      if (!(value & 0x10)) channels_[i].latch_status(now_ns);
    }
    return false;
  }
  if ((value >> 4 & 3) == kLatch) {
    channels_[select].latch_count(now_ns);
    return false;
  }
  channels_[select].write_control(value, now_ns);
  if (select == 0) owed_ = 0;
  return select == 0;
}

bool Pit::reprogram(u64 now_ns) {
  due_ns_ = channels_[0].next_rising_edge(now_ns);
  timers_.arm(timer_, due_ns_);
  return channels_[0].output(now_ns);
}

void Pit::timer_due(u64 now_ns) {
  bool high = false;
  {
    Lock lock(mutex_);
    if (due_ns_ > now_ns) return;  // reprogrammed meanwhile
    owe(channels_[0].periods(due_ns_, now_ns));
    high = reprogram(now_ns);
    if (due_ns_ < now_ns + kShortestPeriodNs) timers_.arm(timer_, due_ns_ = now_ns + kShortestPeriodNs);
  }
  if (waits_ && waits_()) owe(1);
  else pulse(high);
}

void Pit::owe(u64 ticks) {
  const u32 before = owed_.load();
  owed_ = static_cast<u32>(std::min<u64>(before + ticks, kMostOwed));
}

void Pit::pulse(bool stays_high) {
  on_output_(false);
  on_output_(true);
  if (!stays_high) on_output_(false);
}

void Pit::tick_taken() {
  for (u32 owed = owed_.load();;) {
    if (owed == 0) return;
    if (owed_.compare_exchange_weak(owed, owed - 1)) break;
  }
  bool high = false;
  {
    Lock lock(mutex_);
    high = channels_[0].output(clock_.now_ns());
  }
  pulse(high);
}

void Pit::visit(Archive& archive) {
  Lock lock(mutex_);
  for (u32 i = 0; i < 3; ++i) {
    PitChannel& channel = channels_[i];
    archive.part(i + 1, "channel", [&](Archive& a) { channel.visit(a); });
  }
  archive.field(4, "speaker", speaker_bits_);
  archive.field(5, "refresh", refresh_toggle_);
  if (archive.loading()) reprogram(clock_.now_ns());
}

u8 Pit::read_speaker() {
  Lock lock(mutex_);
  refresh_toggle_ = !refresh_toggle_;  // bit 4 toggles with memory refresh; programs wait for changes of it
  bool output = channels_[2].output(clock_.now_ns());
  return static_cast<u8>(speaker_bits_ | (refresh_toggle_ ? 0x10 : 0) | (output ? 0x20 : 0));
}

void Pit::write_speaker(u8 value) {
  Lock lock(mutex_);
  speaker_bits_ = value & 3;
  channels_[2].set_gate(value & 1, clock_.now_ns());
}

u64 Pit::SpeakerPort::bus_read(u64, unsigned) { return pit->read_speaker(); }
void Pit::SpeakerPort::bus_write(u64, u64 value, unsigned) { pit->write_speaker(static_cast<u8>(value)); }

}  // namespace atl::soft
