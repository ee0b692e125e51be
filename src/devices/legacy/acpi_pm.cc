#include "devices/legacy/acpi_pm.h"

#include "base/endian.h"

namespace atl::devices {
namespace {

enum Offset : u64 { kStatus = 0, kEnable = 2, kControl = 4, kTimer = 8 };
enum Pm1Status : u16 { kTimerStatus = 1 << 0, kGlobalStatus = 1 << 5, kPowerButton = 1 << 8, kSleepButton = 1 << 9,
                       kRtcStatus = 1 << 10, kWake = 1 << 15 };
constexpr u16 kPm1Events = kTimerStatus | kGlobalStatus | kPowerButton | kRtcStatus;
enum Pm1Control : u16 { kSciEnable = 1 << 0, kSleepType = 7 << 10, kSleepEnable = 1 << 13 };
constexpr unsigned kSleepTypeShift = 10;
constexpr u64 kOverflowTicks = 1 << 23;  // the event comes when bit 23 of the 24-bit timer changes

u8 byte_of(u16 value, u64 offset) { return static_cast<u8>(value >> (8 * (offset & 1))); }
u16 placed(u8 value, u64 offset) { return static_cast<u16>(value << (8 * (offset & 1))); }
u16 with_byte(u16 old, u8 value, u64 offset) {
  return static_cast<u16>((old & ~placed(0xff, offset)) | placed(value, offset));
}

u64 ticks_at(u64 ns) { return static_cast<u64>(static_cast<u128>(ns) * AcpiPm::kTimerHz / 1'000'000'000); }
u64 ns_at(u64 ticks) {
  return static_cast<u64>((static_cast<u128>(ticks) * 1'000'000'000 + AcpiPm::kTimerHz - 1) / AcpiPm::kTimerHz);
}

}  // namespace

AcpiPm::AcpiPm(cpu::IrqLine& sci, DeviceClock& clock, SystemControl& system)
    : sci_(sci), clock_(clock), system_(system), alarm_(clock.create_alarm([this] { on_alarm(); })) {
  reset();
}

AcpiPm::~AcpiPm() = default;

void AcpiPm::reset() {
  Lock lock(mutex_);
  pm1_status_ = pm1_enable_ = gpe_status_ = gpe_enable_ = 0;
  pm1_control_ = starts_in_acpi_mode_ ? kSciEnable : 0;
  smi_command_ = smi_status_ = 0;
  next_overflow_ticks_ = (ticks_at(clock_.now_ns()) / kOverflowTicks + 1) * kOverflowTicks;
  alarm_->cancel();
  update_sci();
}

void AcpiPm::visit(Archive& archive) {
  Lock lock(mutex_);
  archive.field(1, "pm1_status", pm1_status_);
  archive.field(2, "pm1_enable", pm1_enable_);
  archive.field(3, "pm1_control", pm1_control_);
  archive.field(4, "gpe_status", gpe_status_);
  archive.field(5, "gpe_enable", gpe_enable_);
  archive.field(6, "smi_command", smi_command_);
  archive.field(7, "smi_status", smi_status_);
  archive.field(8, "next_overflow_ticks", next_overflow_ticks_);
  if (!archive.loading()) return;
  update_sci();
  arm();
}

void AcpiPm::power_button() {
  Lock lock(mutex_);
  pm1_status_ |= kPowerButton;
  update_sci();
}

void AcpiPm::raise_event(unsigned number) {
  Lock lock(mutex_);
  gpe_status_ |= static_cast<u16>(1u << (number & 15));
  update_sci();
}

u64 AcpiPm::Pm1Block::bus_read(u64 offset, unsigned width) {
  if (offset == kTimer && width <= 4) return pm_.timer() & byte_mask(width);
  return bytes.bus_read(offset, width);
}

u8 AcpiPm::read_pm1(u64 offset) {
  Lock lock(mutex_);
  collect_overflow();
  switch (offset & ~u64{1}) {
    case kStatus: return byte_of(pm1_status_, offset);
    case kEnable: return byte_of(pm1_enable_, offset);
    case kControl: return byte_of(pm1_control_, offset);
    case kTimer:
    case kTimer + 2: return static_cast<u8>(timer() >> (8 * (offset & 3)));
    default: return 0;
  }
}

void AcpiPm::write_pm1(u64 offset, u8 value) {
  Lock lock(mutex_);
  collect_overflow();
  switch (offset & ~u64{1}) {
    case kStatus: pm1_status_ &= static_cast<u16>(~placed(value, offset)); break;  // write one to clear
    case kEnable: pm1_enable_ = with_byte(pm1_enable_, value, offset) & kPm1Events; break;
    case kControl: {
      const u16 control = with_byte(pm1_control_, value, offset);
      pm1_control_ = control & static_cast<u16>(~kSleepEnable);
      const u16 type = (control & kSleepType) >> kSleepTypeShift;
      if (control & kSleepEnable) fall_asleep(type);
      break;
    }
    default: return;  // the timer is read-only
  }
  update_sci();
  arm();
}

void AcpiPm::fall_asleep(u16 type) {
  if (type == kSoftOff) system_.request_power_off();
  if (type == kSuspend && offers_suspend_) system_.request_suspend();
  if (type == kHibernate && offers_hibernate_) system_.request_hibernate();
}

void AcpiPm::woken(WakeReason reason) {
  Lock lock(mutex_);
  pm1_status_ |= kWake | (reason == WakeReason::Clock ? kRtcStatus : kPowerButton);
}

u8 AcpiPm::read_gpe(u64 offset) {
  Lock lock(mutex_);
  return byte_of(offset < kEnable ? gpe_status_ : gpe_enable_, offset);
}

void AcpiPm::write_gpe(u64 offset, u8 value) {
  Lock lock(mutex_);
  if (offset < kEnable) gpe_status_ &= static_cast<u16>(~placed(value, offset));
  else gpe_enable_ = with_byte(gpe_enable_, value, offset);
  update_sci();
}

u8 AcpiPm::read_smi(u64 offset) {
  Lock lock(mutex_);
  return offset == 0 ? smi_command_ : smi_status_;
}

void AcpiPm::write_smi(u64 offset, u8 value) {
  if (offset == 1) {
    Lock lock(mutex_);
    smi_status_ = value;
    return;
  }
  {
    Lock lock(mutex_);
    smi_command_ = value;
    if (value == kSmiAcpiEnable) pm1_control_ |= kSciEnable;
    if (value == kSmiAcpiDisable) pm1_control_ &= static_cast<u16>(~kSciEnable);
    update_sci();
  }
  if (command_written_) command_written_();
}

u32 AcpiPm::timer() const { return static_cast<u32>(ticks_at(clock_.now_ns()) & 0xffffff); }

void AcpiPm::collect_overflow() {
  const u64 ticks = ticks_at(clock_.now_ns());
  if (ticks < next_overflow_ticks_) return;
  pm1_status_ |= kTimerStatus;
  next_overflow_ticks_ = (ticks / kOverflowTicks + 1) * kOverflowTicks;
}

void AcpiPm::arm() {
  const bool wanted = pm1_enable_ & kTimerStatus && !(pm1_status_ & kTimerStatus);
  if (wanted) alarm_->arm_at(ns_at(next_overflow_ticks_));
  else alarm_->cancel();
}

void AcpiPm::update_sci() {
  const bool pending = pm1_status_ & pm1_enable_ & kPm1Events || gpe_status_ & gpe_enable_;
  sci_.set(pending && pm1_control_ & kSciEnable);
}

void AcpiPm::on_alarm() {
  Lock lock(mutex_);
  collect_overflow();
  update_sci();
  arm();
}

}  // namespace atl::devices
