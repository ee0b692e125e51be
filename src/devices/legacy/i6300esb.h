// The watchdog timer of Intel's 6300ESB I/O controller hub (8086:25ab; Intel 300641, chapter 16): two stages, of which the
// second one ends in what -watchdog-action says.
// Supported: preload values, both clocks, unlock sequence, reload, time-out flag, lock register, free-running mode.
// Missing: the first stage's interrupt (it may be routed to an SMI or to the SERIRQ, which guests do not use).
//
// Threads: registers from vCPU threads, the alarm from the clock's loop; one mutex.
#pragma once

#include <memory>

#include "base/sync.h"
#include "devices/legacy/device_clock.h"
#include "devices/legacy/system_control.h"
#include "devices/pci/device.h"

namespace atl::devices {

class I6300Esb final : public PciDevice, private memory::BusDevice {
 public:
  I6300Esb(DeviceClock& clock, SystemControl& system);
  ~I6300Esb() override;

  std::string_view type() const override { return "i6300esb"; }
  PciFunction& function() override { return function_; }
  void reset() override;
  void visit(Archive& archive) override;

 private:
  u64 bus_read(u64 offset, unsigned width) override;
  void bus_write(u64 offset, u64 value, unsigned width) override;
  void write_reload(u16 value) REQUIRES(mutex_);
  void write_lock();
  void write_configuration();
  void start_stage(unsigned stage) REQUIRES(mutex_);
  void stop() REQUIRES(mutex_);
  void on_alarm();

  DeviceClock& clock_;
  SystemControl& system_;
  std::unique_ptr<Alarm> alarm_;
  PciFunction function_;
  Mutex mutex_;
  u32 preload_[2] GUARDED_BY(mutex_) = {0xfffff, 0xfffff};
  u8 unlock_ GUARDED_BY(mutex_) = 0;       // steps of the unlock sequence that were done
  u8 stage_ GUARDED_BY(mutex_) = 0;        // 0 or 1
  u64 deadline_ns_ GUARDED_BY(mutex_) = 0;  // 0: stopped
  bool timed_out_ GUARDED_BY(mutex_) = false;
  bool fast_clock_ GUARDED_BY(mutex_) = false;
  bool output_disabled_ GUARDED_BY(mutex_) = false;
  bool free_running_ GUARDED_BY(mutex_) = false;
  bool enabled_ GUARDED_BY(mutex_) = false;
  bool locked_ GUARDED_BY(mutex_) = false;
};

}  // namespace atl::devices
