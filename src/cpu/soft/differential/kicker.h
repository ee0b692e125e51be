// A thread that interrupts a runner at random points of time, as a device or a timer would.
#pragma once

#include <atomic>
#include <thread>

#include "cpu/soft/differential/random.h"
#include "cpu/soft/differential/soft_runner.h"

namespace atl::soft::differential {

class Kicker {
 public:
  explicit Kicker(SoftRunner& runner) : runner_(runner), thread_([this] { work(); }) {}
  ~Kicker() {
    ending_ = true;
    wanted_ = true;
    wanted_.notify_one();
    thread_.join();
  }
  Kicker(const Kicker&) = delete;
  Kicker& operator=(const Kicker&) = delete;

  /// Interrupts once, up to some microseconds from now.
  void ask() {
    if (!wanted_.exchange(true)) wanted_.notify_one();
  }

 private:
  void work() {
    Random random(1);
    for (;;) {
      wanted_.wait(false);
      if (ending_) return;
      for (u64 turns = random.below(400); turns > 0; --turns) __builtin_ia32_pause();
      wanted_ = false;
      runner_.interrupt();
    }
  }

  SoftRunner& runner_;
  std::atomic<bool> wanted_{false}, ending_{false};
  std::thread thread_;
};

}  // namespace atl::soft::differential
