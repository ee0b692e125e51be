// What a guest can ask of the whole machine by writing a register.
#pragma once

namespace atl::devices {

/// Requests return at once; the machine acts when the vCPUs have stopped. Any thread.
class SystemControl {
 public:
  virtual ~SystemControl() = default;
  virtual void request_reset() = 0;
  virtual void request_power_off() = 0;
  /// The program ends with this exit status (isa-debug-exit).
  virtual void request_exit(int status) = 0;
};

}  // namespace atl::devices
