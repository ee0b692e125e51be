// High precision event timers: three of them on a 100 MHz counter at 0xfed00000 (IA-PC HPET Specification 1.0a, Intel 2004).
// Supported: one-shot and periodic comparators of 32 and 64 bits, edge and level interrupts on I/O APIC input 2, legacy replacement of
// the PIT (IRQ 0) and the clock (IRQ 8). Missing: front side bus interrupts, other inputs of the I/O APIC.
//
// Threads: registers from vCPU threads, alarms from the clock's loop; one mutex.
#pragma once

#include <array>
#include <functional>
#include <memory>

#include "base/sync.h"
#include "cpu/vm.h"
#include "devices/device.h"
#include "devices/legacy/device_clock.h"
#include "memory/address_space.h"

namespace atl::devices {

class Hpet final : public Device, public memory::BusDevice {
 public:
  static constexpr GuestAddr kBase = 0xfed00000;
  static constexpr u64 kBytes = 0x400;
  static constexpr u32 kTimers = 3;
  static constexpr u32 kBlockId = 0x8086a001 | (kTimers - 1) << 8;  // low half of the capabilities, as the ACPI table has it

  struct Wiring {
    cpu::IrqLine& irq0;   // what timer 0 and 1 take over
    cpu::IrqLine& irq8;
    cpu::IrqLine& input2; // of the I/O APIC
    std::function<void(bool on)> legacy_replacement;  // the others shall be quiet on these lines; under the registers' mutex
  };
  Hpet(DeviceClock& clock, Wiring wiring);
  ~Hpet() override;

  std::string_view type() const override { return "hpet"; }
  void reset() override;
  void visit(Archive& archive) override;
  u64 bus_read(u64 offset, unsigned width) override;
  void bus_write(u64 offset, u64 value, unsigned width) override;

 private:
  struct Timer {
    u64 config = 0, comparator = ~u64{0}, period = 0, deadline_ns = 0;
    bool due = false;  // armed, and not yet past its comparator
    std::unique_ptr<Alarm> alarm;
  };

  bool enabled() const REQUIRES(mutex_);
  bool is_legacy(u32 index) const REQUIRES(mutex_);
  u64 counter() const REQUIRES(mutex_);
  u64 read_register(u64 at) REQUIRES(mutex_);
  void write_register(u64 at, u64 value, u64 mask) REQUIRES(mutex_);
  void write_general(u64 value) REQUIRES(mutex_);
  void write_config(u32 index, u64 value) REQUIRES(mutex_);
  void write_comparator(u32 index, u64 value, u64 mask) REQUIRES(mutex_);
  void write_status(u64 value) REQUIRES(mutex_);
  void start(u32 index) REQUIRES(mutex_);
  void stop(u32 index) REQUIRES(mutex_);
  void arm(u32 index) REQUIRES(mutex_);
  void interrupt(u32 index) REQUIRES(mutex_);
  void set_level(u32 index, bool level) REQUIRES(mutex_);
  cpu::IrqLine* line_of(u32 index) const REQUIRES(mutex_);
  void on_alarm(u32 index);
  void set_legacy(bool on) REQUIRES(mutex_);
  void forget() REQUIRES(mutex_);

  DeviceClock& clock_;
  const Wiring wiring_;
  Mutex mutex_;
  u64 general_ GUARDED_BY(mutex_) = 0, status_ GUARDED_BY(mutex_) = 0;
  u64 halted_at_ GUARDED_BY(mutex_) = 0;   // the counter while it stands still
  u64 offset_ns_ GUARDED_BY(mutex_) = 0;   // guest time minus counter time, modulo 2^64, while it runs
  std::array<Timer, kTimers> timers_ GUARDED_BY(mutex_);
};

}  // namespace atl::devices
