// The millisecond beat of a controller's schedule: calls back on its clock's loop while it runs, at once when something woke.
//
// Threads: run(), stop() and poke() any thread; the callback on the loop, without locks.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>

#include "devices/legacy/device_clock.h"

namespace atl::devices::usb {

class FrameClock {
 public:
  static constexpr u64 kFrameNs = 1'000'000;

  FrameClock(DeviceClock& clock, std::function<void()> frame)
      : clock_(clock), frame_(std::move(frame)), alarm_(clock.create_alarm([this] { fired(); })) {}

  void run() {
    if (running_.exchange(true)) return;
    next_ns_ = clock_.now_ns() + kFrameNs;
    alarm_->arm_at(next_ns_);
  }
  void stop() {
    running_ = false;
    alarm_->cancel();
  }
  bool running() const { return running_; }
  /// One call soon, running or not.
  void poke() { alarm_->arm_at(clock_.now_ns()); }
  /// Frames that have passed since the last call of this; at least `least`, at most `most`.
  u64 passed(u64 most) {
    const u64 now = clock_.now_ns();
    u64 frames = 0;
    if (now >= next_ns_) frames = (now - next_ns_) / kFrameNs + 1;
    next_ns_ += frames * kFrameNs;
    return std::min(frames, most);
  }

 private:
  void fired() {
    frame_();
    if (running_) alarm_->arm_at(next_ns_);
  }

  DeviceClock& clock_;
  std::function<void()> frame_;
  std::atomic<bool> running_ = false;
  std::atomic<u64> next_ns_ = 0;
  std::unique_ptr<Alarm> alarm_;
};

}  // namespace atl::devices::usb
