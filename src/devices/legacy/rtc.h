// MC146818 real-time clock with 128 bytes of CMOS RAM at ports 0x70 and 0x71 (Motorola MC146818 data sheet; the PC's use
// of the RAM as in IBM's PC AT reference).
// Supported: time and date in BCD or binary, 12 and 24 hours, century at 0x32; periodic, alarm and update-ended
//   interrupts; setting the clock; update-in-progress.
// Missing: square wave output, daylight saving.
// Threads: registers from vCPU threads, the alarm from the clock's loop; one mutex.
#pragma once

#include <array>
#include <functional>
#include <memory>

#include "base/sync.h"
#include "cpu/vm.h"
#include "devices/device.h"
#include "devices/legacy/byte_ports.h"
#include "devices/legacy/device_clock.h"

namespace atl::devices {

struct RtcOptions {
  /// Nanoseconds that the date counts with (host real time, or guest time); any origin, never going back by much.
  std::function<i64()> time_source_ns;
  /// Added to the source to give the date: nanoseconds since 1970-01-01 00:00 in the zone that the guest sees.
  i64 offset_ns = 0;
  /// Deliver periodic interrupts that the guest was too slow for afterwards (-rtc driftfix=slew).
  bool catch_up_ticks = false;
  /// The guest set its clock: the new difference to the start value, in seconds. May be empty. Called without locks.
  std::function<void(i64 seconds)> on_change;
  /// An alarm that the guest has enabled went off. May be empty. Called without locks.
  std::function<void()> on_alarm;
};

class Rtc final : public Device, public BytePorts {
 public:
  static constexpr u64 kPorts = 2;
  static constexpr size_t kCmosBytes = 128;

  Rtc(cpu::IrqLine& irq, DeviceClock& clock, RtcOptions options);

  std::string_view type() const override { return "mc146818rtc"; }
  /// Power-on of the machine: the clock and the RAM are kept by the battery.
  void reset() override;
  void visit(Archive& archive) override;
  /// What firmware finds in the RAM. `index` from 0x0e up.
  void set_cmos(u8 index, u8 value);
  /// Periodic interrupts that are late, and would be delivered afterwards, are given up.
  void drop_missed_ticks();

 private:
  struct Date {
    int second, minute, hour, day, month, year, weekday;  // year in full, month 1 to 12, weekday 0 = Sunday
  };

  u8 read_byte(u64 offset) override;
  void write_byte(u64 offset, u8 value) override;
  void write_register(u8 index, u8 value) REQUIRES(mutex_);
  void write_divider(u8 value) REQUIRES(mutex_);
  void write_control(u8 value) REQUIRES(mutex_);
  u8 read_time(u8 index) REQUIRES(mutex_);
  u8 read_flags() REQUIRES(mutex_);

  i64 date_ns() const REQUIRES(mutex_);
  Date current_date() const REQUIRES(mutex_);
  void freeze() REQUIRES(mutex_);
  void set_from_registers(i64 into_second = 0) REQUIRES(mutex_);
  u8 encode(int value) const REQUIRES(mutex_);
  int decode(u8 value) const REQUIRES(mutex_);
  u8 encode_hour(int hour) const REQUIRES(mutex_);
  int decode_hour(u8 value) const REQUIRES(mutex_);

  u64 period_ns() const REQUIRES(mutex_);
  bool counting() const REQUIRES(mutex_);
  i64 next_alarm_after(i64 date) const REQUIRES(mutex_);
  bool alarm_matches(u8 index, int value) const REQUIRES(mutex_);
  void collect_events() REQUIRES(mutex_);
  void restart_events() REQUIRES(mutex_);
  void update_interrupt() REQUIRES(mutex_);
  void arm() REQUIRES(mutex_);
  void on_alarm();

  cpu::IrqLine& irq_;
  DeviceClock& clock_;
  const RtcOptions options_;
  std::unique_ptr<Alarm> alarm_;

  Mutex mutex_;
  std::array<u8, kCmosBytes> cmos_ GUARDED_BY(mutex_){};
  u8 index_ GUARDED_BY(mutex_) = 0;
  i64 offset_ns_ GUARDED_BY(mutex_);
  i64 events_seen_ GUARDED_BY(mutex_) = 0;      // date up to which update and alarm events were collected
  u64 next_period_ns_ GUARDED_BY(mutex_) = 0;   // guest time of the next periodic event
  bool time_was_set_ GUARDED_BY(mutex_) = false;
};

}  // namespace atl::devices
