// What a guest can ask of the whole machine by writing a register.
#pragma once

#include "base/types.h"

namespace atl::devices {

/// What has woken a machine that slept.
enum class WakeReason : u8 { Button, Clock };

/// Requests return at once; the machine acts when the vCPUs have stopped. Any thread.
class SystemControl {
 public:
  virtual ~SystemControl() = default;
  virtual void request_reset() = 0;
  virtual void request_power_off() = 0;
  /// S3: the processors stop until something wakes the machine, and go on at the reset vector.
  virtual void request_suspend() = 0;
  /// S4: as power off, once the guest has put its memory away.
  virtual void request_hibernate() = 0;
  /// The clock's alarm: wakes a machine that sleeps.
  virtual void report_alarm() = 0;
  /// The program ends with this exit status (isa-debug-exit).
  virtual void request_exit(int status) = 0;
  /// The guest's kernel has crashed; `crash_kernel`: it goes on with another one (pvpanic).
  virtual void report_panic(bool crash_kernel) = 0;
  /// A watchdog was not fed.
  virtual void report_watchdog() = 0;
};

}  // namespace atl::devices
