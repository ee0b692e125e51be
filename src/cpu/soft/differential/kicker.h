// Interrupts a runner at random points of time, as a device would: a timer's signal on the runner's own thread.
#pragma once

#include <signal.h>
#include <time.h>

#include "base/check.h"
#include "cpu/soft/differential/random.h"
#include "cpu/soft/differential/soft_runner.h"

namespace atl::soft::differential {

class Kicker {
 public:
  /// On the thread that runs `runner`, which has a signal stack.
  explicit Kicker(SoftRunner& runner);
  ~Kicker() { ::timer_delete(timer_); }
  Kicker(const Kicker&) = delete;
  Kicker& operator=(const Kicker&) = delete;

  /// Interrupts once, up to some microseconds from now.
  void ask() { set(1 + static_cast<long>(random_.below(u64{1} << (10 + random_.below(6))))); }
  void stop() { set(0); }

 private:
  void set(long nanoseconds) {
    itimerspec when{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = nanoseconds}};
    CHECK(::timer_settime(timer_, 0, &when, nullptr) == 0);
  }

  Random random_{1};
  timer_t timer_ = nullptr;
};

}  // namespace atl::soft::differential
