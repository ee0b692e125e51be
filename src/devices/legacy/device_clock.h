// Guest time and alarms in it, as device models see them. The machine implements this over VmClock and an I/O loop.
#pragma once

#include <functional>
#include <memory>

#include "base/types.h"

namespace atl::devices {

/// A one-shot alarm in guest time. arm_at() and cancel() from any thread; a cancelled alarm may still fire once if it was
/// just about to, so the callback looks at its device's state anew.
class Alarm {
 public:
  virtual ~Alarm() = default;
  /// (Re)arms for guest time `ns`; a time in the past fires soon.
  virtual void arm_at(u64 ns) = 0;
  virtual void cancel() = 0;
};

class DeviceClock {
 public:
  virtual ~DeviceClock() = default;
  /// Any thread.
  virtual u64 now_ns() const = 0;
  /// `fire` is called on the clock's loop, without locks held. Control thread.
  virtual std::unique_ptr<Alarm> create_alarm(std::function<void()> fire) = 0;
};

}  // namespace atl::devices
