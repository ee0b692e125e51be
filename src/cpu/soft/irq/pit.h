// Programmable interval timer: Intel 8254 datasheet; channel 0 is the system timer, channel 2 the speaker with its gate and
// output at port 0x61 (PC/AT). 1.193182 MHz.
//
// Supported: modes 0 to 5, latch and read-back commands, all access modes, BCD counting, port 0x61.
// Ticks of a periodic channel 0 that come while the last one still waits for the processor, or that the host was too late for,
// are owed and follow when that one has been taken, as KVM does it: a guest that counts ticks goes right, and one that looks
// whether there are any (Linux, for some ten periods at boot) sees them however slow the host is.
// Missing: interrupts of channels 1 and 2 (not wired), GATE of channels 0 and 1 (tied high), sound.
//
// Threads: registers from vCPU threads, channel 0 from the timer thread; one lock. `on_output` (channel 0's OUT) is called
// without it.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <string>

#include "base/archive.h"
#include "base/sync.h"
#include "cpu/soft/irq/timer_queue.h"
#include "memory/address_space.h"

namespace atl::soft {

/// One counter, in terms of guest time. Not locked.
class PitChannel {
 public:
  static constexpr u64 kHz = 1193182;

  void write_control(u8 control, u64 now_ns);
  void write_count(u8 value, u64 now_ns);
  u8 read(u64 now_ns);
  void latch_count(u64 now_ns);
  void latch_status(u64 now_ns);
  void set_gate(bool gate, u64 now_ns);
  bool gate() const { return gate_; }
  bool output(u64 now_ns) const;
  /// Guest time at which OUT next goes from low to high, TimerQueue::kNever if it never does.
  u64 next_rising_edge(u64 now_ns) const;
  /// Whole periods from one time to the other, 0 in modes that are not periodic.
  u64 periods(u64 from_ns, u64 to_ns) const;
  void reset();
  void visit(Archive& archive);

 private:
  bool counting() const;
  bool gate_or_triggered() const { return gate_ || mode_ == 1 || mode_ == 5; }
  u64 ticks(u64 now_ns) const;               // since the count was loaded
  u64 time_of(u64 tick) const;               // guest time at which `tick` ticks have passed
  u32 reload() const { return count_ ? count_ : (bcd_ ? 10000u : 65536u); }
  u16 counter(u64 now_ns) const;             // what a read would show, in binary or BCD
  u8 status(u64 now_ns) const;
  void load(u32 value, u64 now_ns);

  u8 mode_ = 3, access_ = 3;
  bool bcd_ = false, gate_ = true;
  bool loaded_ = false;                      // a count was written since the mode was set
  bool write_high_next_ = false, read_high_next_ = false;
  u8 write_low_ = 0;
  u32 count_ = 0;                            // 0 means the maximum
  u64 start_ns_ = 0;                         // when counting began (modes 1 and 5: at the trigger)
  bool triggered_ = false;
  u8 latched_bytes_ = 0;                     // still to be read
  u16 latch_ = 0;
  bool status_latched_ = false;
  u8 status_latch_ = 0;
};

class Pit final : public memory::BusDevice, private TimerQueue::Client {
 public:
  /// `waits` tells whether channel 0's last tick has not yet reached the processor; without it none is ever owed for that.
  Pit(VmClock& clock, TimerQueue& timers, std::function<void(bool)> on_output, std::function<bool()> waits = {});
  ~Pit() override;

  /// Ports 0x40 to 0x43.
  u64 bus_read(u64 offset, unsigned width) override EXCLUDES(mutex_);
  void bus_write(u64 offset, u64 value, unsigned width) override EXCLUDES(mutex_);
  /// Port 0x61.
  memory::BusDevice& speaker_port() { return speaker_port_; }

  /// Whether tick_taken() has something to do. Any thread.
  bool owes() const { return owed_.load(std::memory_order_relaxed) != 0; }
  /// The processor is done with channel 0's last tick: the next one that is owed follows. Any thread.
  void tick_taken() EXCLUDES(mutex_);

  void reset() EXCLUDES(mutex_);
  void visit(Archive& archive) EXCLUDES(mutex_);

 private:
  class SpeakerPort final : public memory::BusDevice {
   public:
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;
    Pit* pit = nullptr;
  };

  void timer_due(u64 now_ns) override EXCLUDES(mutex_);
  bool write_control(u8 value, u64 now_ns) REQUIRES(mutex_);
  /// Channel 0 changed: new deadline, and OUT's present level.
  bool reprogram(u64 now_ns) REQUIRES(mutex_);
  void owe(u64 ticks);
  void pulse(bool stays_high);
  u8 read_speaker() EXCLUDES(mutex_);
  void write_speaker(u8 value) EXCLUDES(mutex_);

  VmClock& clock_;
  TimerQueue& timers_;
  const std::function<void(bool)> on_output_;
  const std::function<bool()> waits_;
  std::atomic<u32> owed_{0};                 // not saved: a restored guest does without them
  TimerQueue::Id timer_;
  mutable Mutex mutex_;
  std::array<PitChannel, 3> channels_ GUARDED_BY(mutex_);
  u64 due_ns_ GUARDED_BY(mutex_) = TimerQueue::kNever;
  u8 speaker_bits_ GUARDED_BY(mutex_) = 0;   // port 0x61 bits 0 and 1
  bool refresh_toggle_ GUARDED_BY(mutex_) = false;
  SpeakerPort speaker_port_;
};

}  // namespace atl::soft
