// Guest time and alarms for device models: VmClock, with timers on one I/O loop. Alarms stand still while the machine is
// paused. Time that is stepped stands still all the time but for step().
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/loop.h"
#include "base/sync.h"
#include "base/vm_clock.h"
#include "devices/legacy/device_clock.h"

namespace atl::machine {

class LoopClock final : public devices::DeviceClock {
 public:
  enum class Pace : u8 { Host, Stepped };

  /// Both outlive this and every alarm. Destroy alarms on the loop's thread or after it has ended.
  LoopClock(Loop& loop, VmClock& clock, Pace pace = Pace::Host);
  ~LoopClock() override;

  u64 now_ns() const override { return clock_.now_ns(); }
  std::unique_ptr<devices::Alarm> create_alarm(std::function<void()> fire) override;
  /// The clock runs again: arms all that is due. Control thread.
  void resumed();
  /// Time until the first alarm that is set.
  std::optional<u64> until_next_alarm();
  /// Puts stepped time forward, with a stop at each alarm on the way; all of them have rung when this returns. Control thread,
  /// while the loop runs on another one.
  void step(u64 ns);

 private:
  class LoopAlarm;
  LoopAlarm* first_alarm();
  void step_on_loop(u64 end_ns);

  Loop& loop_;
  VmClock& clock_;
  const Pace pace_;
  Mutex mutex_;
  std::vector<LoopAlarm*> alarms_ GUARDED_BY(mutex_);
};

}  // namespace atl::machine
