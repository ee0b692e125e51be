// ACPI fixed hardware as in the PIIX4 (ACPI 6.4 section 4.8; Intel 82371AB data sheet section 7): PM1 event and control
// registers, the power management timer, one general-purpose event block, and the SMI command port that hands ACPI over.
// Supported: power button, S3, S4, S5, wake-up by the button and the clock's alarm, PM timer with its overflow event, GPE0 with 16
// events. Missing: sleep button, wake-up by the timer and by general-purpose events, global lock.
// Threads: registers from vCPU threads, power_button() and raise_event() from any; one mutex.
#pragma once

#include <functional>
#include <memory>

#include "base/sync.h"
#include "cpu/vm.h"
#include "devices/device.h"
#include "devices/legacy/byte_ports.h"
#include "devices/legacy/device_clock.h"
#include "devices/legacy/system_control.h"

namespace atl::devices {

class AcpiPm final : public Device {
 public:
  static constexpr u64 kPm1Ports = 0x40;      // PM1a event +0, PM1a control +4, timer +8
  static constexpr u64 kGpePorts = 4;         // status +0, enable +2
  static constexpr u64 kSmiPorts = 2;         // command +0, status +1
  static constexpr u8 kSmiAcpiEnable = 0xf1, kSmiAcpiDisable = 0xf0;
  /// SLP_TYP of the states (the DSDT's _S3, _S4 and _S5 say the same).
  enum SleepType : u8 { kSoftOff = 0, kSuspend = 1, kHibernate = 2 };
  static constexpr u64 kTimerHz = 3'579'545;

  AcpiPm(cpu::IrqLine& sci, DeviceClock& clock, SystemControl& system);
  ~AcpiPm() override;

  std::string_view type() const override { return "acpi-pm"; }
  void reset() override;
  void visit(Archive& archive) override;

  /// Without firmware nobody writes the SMI command: the board starts in ACPI mode.
  void start_in_acpi_mode(bool yes) { starts_in_acpi_mode_ = yes; }
  /// States that do not exist here are as a write that does nothing. Before the vCPUs run.
  void offer_sleep(bool suspend, bool hibernate) { offers_suspend_ = suspend, offers_hibernate_ = hibernate; }
  /// After a reset that ends S3: tells the guest what woke it.
  void woken(WakeReason reason);
  /// Who else follows writes to the SMI command port. Before the vCPUs run.
  void on_command(std::function<void()> written) { command_written_ = std::move(written); }
  void power_button();
  /// Sets a bit of GPE0's status (0 to 15).
  void raise_event(unsigned number);

  memory::BusDevice& pm1_ports() { return pm1_; }
  memory::BusDevice& gpe_ports() { return gpe_; }
  memory::BusDevice& smi_ports() { return smi_; }

 private:
  /// Three register blocks of one device: each forwards to a pair of members.
  struct Block final : BytePorts {
    Block(AcpiPm& pm, u8 (AcpiPm::*read)(u64), void (AcpiPm::*write)(u64, u8)) : pm_(pm), read_(read), write_(write) {}
    u8 read_byte(u64 offset) override { return (pm_.*read_)(offset); }
    void write_byte(u64 offset, u8 value) override { (pm_.*write_)(offset, value); }
    AcpiPm& pm_;
    u8 (AcpiPm::*read_)(u64);
    void (AcpiPm::*write_)(u64, u8);
  };
  /// The timer is read as one 32-bit value, so that its bytes belong together.
  struct Pm1Block final : memory::BusDevice {
    explicit Pm1Block(AcpiPm& pm) : bytes(pm, &AcpiPm::read_pm1, &AcpiPm::write_pm1), pm_(pm) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override { bytes.bus_write(offset, value, width); }
    Block bytes;
    AcpiPm& pm_;
  };

  void fall_asleep(u16 type);
  u8 read_pm1(u64 offset);
  void write_pm1(u64 offset, u8 value);
  u8 read_gpe(u64 offset);
  void write_gpe(u64 offset, u8 value);
  u8 read_smi(u64 offset);
  void write_smi(u64 offset, u8 value);

  u32 timer() const;
  void collect_overflow() REQUIRES(mutex_);
  void arm() REQUIRES(mutex_);
  void update_sci() REQUIRES(mutex_);
  void on_alarm();

  cpu::IrqLine& sci_;
  DeviceClock& clock_;
  SystemControl& system_;
  std::unique_ptr<Alarm> alarm_;
  Pm1Block pm1_{*this};
  Block gpe_{*this, &AcpiPm::read_gpe, &AcpiPm::write_gpe};
  Block smi_{*this, &AcpiPm::read_smi, &AcpiPm::write_smi};
  bool starts_in_acpi_mode_ = false, offers_suspend_ = false, offers_hibernate_ = false;
  std::function<void()> command_written_;

  Mutex mutex_;
  u16 pm1_status_ GUARDED_BY(mutex_) = 0;
  u16 pm1_enable_ GUARDED_BY(mutex_) = 0;
  u16 pm1_control_ GUARDED_BY(mutex_) = 0;
  u16 gpe_status_ GUARDED_BY(mutex_) = 0;
  u16 gpe_enable_ GUARDED_BY(mutex_) = 0;
  u8 smi_command_ GUARDED_BY(mutex_) = 0;
  u8 smi_status_ GUARDED_BY(mutex_) = 0;
  u64 next_overflow_ticks_ GUARDED_BY(mutex_) = 0;
};

}  // namespace atl::devices
