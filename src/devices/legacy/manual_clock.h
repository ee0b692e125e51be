// For tests: a clock that moves when told to, firing alarms on the way.
#pragma once

#include <limits>
#include <utility>
#include <vector>

#include "devices/legacy/device_clock.h"

namespace atl::devices {

class ManualClock final : public DeviceClock {
 public:
  u64 now_ns() const override { return now_ns_; }
  std::unique_ptr<Alarm> create_alarm(std::function<void()> fire) override {
    return std::make_unique<ManualAlarm>(*this, std::move(fire));
  }

  void advance(u64 ns) {
    const u64 end = now_ns_ + ns;
    while (ManualAlarm* next = earliest(end)) {
      now_ns_ = std::max(now_ns_, next->deadline_);
      next->deadline_ = kIdle;
      next->fire_();
    }
    now_ns_ = end;
  }

 private:
  static constexpr u64 kIdle = std::numeric_limits<u64>::max();

  class ManualAlarm final : public Alarm {
   public:
    ManualAlarm(ManualClock& clock, std::function<void()> fire) : clock_(clock), fire_(std::move(fire)) {
      clock_.alarms_.push_back(this);
    }
    ~ManualAlarm() override { std::erase(clock_.alarms_, this); }
    void arm_at(u64 ns) override { deadline_ = ns; }
    void cancel() override { deadline_ = kIdle; }

   private:
    friend class ManualClock;
    ManualClock& clock_;
    std::function<void()> fire_;
    u64 deadline_ = kIdle;
  };

  ManualAlarm* earliest(u64 end) {
    ManualAlarm* best = nullptr;
    for (ManualAlarm* alarm : alarms_) {
      if (alarm->deadline_ == kIdle || alarm->deadline_ > end) continue;
      if (!best || alarm->deadline_ < best->deadline_) best = alarm;
    }
    return best;
  }

  u64 now_ns_ = 0;
  std::vector<ManualAlarm*> alarms_;
};

}  // namespace atl::devices
