// Guest time: nanoseconds since the machine's birth, standing still while the machine is paused.
#pragma once

#include <atomic>

#include "base/clock.h"
#include "base/types.h"

namespace atl {

/// now_ns() from any thread; pause() and resume() from the control thread with the vCPUs stopped.
class VmClock {
 public:
  u64 now_ns() const {
    u64 frozen = frozen_.load(std::memory_order_acquire);
    return frozen != kRunning ? frozen : monotonic_ns() - origin_.load(std::memory_order_relaxed);
  }
  bool running() const { return frozen_.load(std::memory_order_acquire) == kRunning; }
  void pause() {
    if (running()) frozen_.store(now_ns(), std::memory_order_release);
  }
  void resume() {
    if (running()) return;
    origin_.store(monotonic_ns() - frozen_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    frozen_.store(kRunning, std::memory_order_release);
  }
  /// Sets the time of a paused clock (restored state).
  void set_ns(u64 ns) { frozen_.store(ns, std::memory_order_release); }
  /// CLOCK_MONOTONIC time at which the running clock shows `ns`.
  u64 to_monotonic_ns(u64 ns) const { return ns + origin_.load(std::memory_order_relaxed); }

 private:
  static constexpr u64 kRunning = ~u64{0};
  std::atomic<u64> frozen_{0};  // paused at birth; resume() starts it
  std::atomic<u64> origin_{0};
};

}  // namespace atl
