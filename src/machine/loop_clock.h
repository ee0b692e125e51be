// Guest time and alarms for device models: VmClock, with timers on one I/O loop. Alarms stand still while the machine is
// paused.
#pragma once

#include <memory>
#include <vector>

#include "base/loop.h"
#include "base/sync.h"
#include "base/vm_clock.h"
#include "devices/legacy/device_clock.h"

namespace atl::machine {

class LoopClock final : public devices::DeviceClock {
 public:
  /// Both outlive this and every alarm. Destroy alarms on the loop's thread or after it has ended.
  LoopClock(Loop& loop, VmClock& clock);
  ~LoopClock() override;

  u64 now_ns() const override { return clock_.now_ns(); }
  std::unique_ptr<devices::Alarm> create_alarm(std::function<void()> fire) override;
  /// The clock runs again: arms all that is due. Control thread.
  void resumed();

 private:
  class LoopAlarm;

  Loop& loop_;
  VmClock& clock_;
  Mutex mutex_;
  std::vector<LoopAlarm*> alarms_ GUARDED_BY(mutex_);
};

}  // namespace atl::machine
