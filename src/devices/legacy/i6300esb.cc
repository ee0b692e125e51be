#include "devices/legacy/i6300esb.h"

namespace atl::devices {
namespace {

// Configuration space (16.1) and registers in BAR 0 (16.2).
constexpr u16 kConfiguration = 0x60, kLock = 0x68;
constexpr u16 kOutputDisabled = 1 << 5, kFastClock = 1 << 2;
constexpr u8 kLocked = 1 << 0, kEnabled = 1 << 1, kFreeRunning = 1 << 2;
enum Register : u64 { kPreload1 = 0x00, kPreload2 = 0x04, kInterruptStatus = 0x08, kReload = 0x0c };
constexpr u16 kReloadTimer = 1 << 8, kTimeout = 1 << 9;
constexpr u8 kUnlockFirst = 0x80, kUnlockSecond = 0x86;
constexpr u32 kPreloadMask = 0xfffff;
constexpr u64 kClockHz = 33'000'000;

}  // namespace

I6300Esb::I6300Esb(DeviceClock& clock, SystemControl& system)
    : clock_(clock),
      system_(system),
      alarm_(clock.create_alarm([this] { on_alarm(); })),
      function_("i6300esb", {.vendor = 0x8086, .device = 0x25ab, .class_code = 0x088000, .subsystem_vendor = 0x1af4, .subsystem = 0x1100}) {
  function_.set_bar(0, {.kind = PciBar::Kind::Memory32, .size = 16, .device = this});
  function_.set_writable(kConfiguration, 0x27);
  function_.set_writable(kLock, kLocked | kEnabled | kFreeRunning);
  function_.set_window({.offset = kConfiguration, .size = kLock + 1 - kConfiguration, .before_read = {},
                        .after_write = [this](u16 offset, unsigned) { offset >= kLock ? write_lock() : write_configuration(); }});
}

I6300Esb::~I6300Esb() = default;

void I6300Esb::reset() {
  function_.reset();
  Lock lock(mutex_);
  stop();
  preload_[0] = preload_[1] = kPreloadMask;
  unlock_ = stage_ = 0;
  fast_clock_ = output_disabled_ = free_running_ = enabled_ = locked_ = false;
  // The time-out flag is kept: after a reset it tells what caused it.
}

void I6300Esb::visit(Archive& archive) {
  function_.visit(archive);
  Lock lock(mutex_);
  archive.field(3, "preload1", preload_[0]);
  archive.field(4, "preload2", preload_[1]);
  archive.field(5, "unlock", unlock_);
  archive.field(6, "stage", stage_);
  archive.field(7, "deadline_ns", deadline_ns_);
  archive.field(8, "timed_out", timed_out_);
  archive.field(9, "fast_clock", fast_clock_);
  archive.field(10, "output_disabled", output_disabled_);
  archive.field(11, "free_running", free_running_);
  archive.field(12, "enabled", enabled_);
  archive.field(13, "locked", locked_);
  if (!archive.loading()) return;
  for (u32& value : preload_) value &= kPreloadMask;
  stage_ &= 1;
  if (deadline_ns_) alarm_->arm_at(deadline_ns_);
  else alarm_->cancel();
}

u64 I6300Esb::bus_read(u64 offset, unsigned) {
  Lock lock(mutex_);
  return offset == kReload && timed_out_ ? kTimeout : 0;
}

/// The first stage starts with the preloaded value; a value of 0 counts as 1.
void I6300Esb::start_stage(unsigned stage) {
  stage_ = static_cast<u8>(stage);
  const u64 ticks = (u64{preload_[stage]} + 1) << (fast_clock_ ? 5 : 15);
  deadline_ns_ = clock_.now_ns() + static_cast<u64>(static_cast<u128>(ticks) * 1'000'000'000 / kClockHz);
  alarm_->arm_at(deadline_ns_);
}

void I6300Esb::stop() {
  deadline_ns_ = 0;
  alarm_->cancel();
}

void I6300Esb::write_configuration() {
  Lock lock(mutex_);
  fast_clock_ = function_.word(kConfiguration) & kFastClock;
  output_disabled_ = function_.word(kConfiguration) & kOutputDisabled;
}

/// Once locked, the timer runs until a reset.
void I6300Esb::write_lock() {
  Lock lock(mutex_);
  if (locked_) return;
  const u8 value = function_.byte(kLock);
  locked_ = value & kLocked;
  free_running_ = value & kFreeRunning;
  const bool before = std::exchange(enabled_, (value & kEnabled) != 0);
  if (enabled_ && !before) start_stage(0);
  if (!enabled_) stop();
}

void I6300Esb::bus_write(u64 offset, u64 value, unsigned) {
  Lock lock(mutex_);
  if (offset == kReload && unlock_ == 0 && value == kUnlockFirst) {
    unlock_ = 1;
    return;
  }
  if (offset == kReload && unlock_ == 1 && value == kUnlockSecond) {
    unlock_ = 2;
    return;
  }
  if (std::exchange(unlock_, u8{0}) != 2) return;
  if (offset == kPreload1) preload_[0] = static_cast<u32>(value) & kPreloadMask;
  if (offset == kPreload2) preload_[1] = static_cast<u32>(value) & kPreloadMask;
  if (offset == kReload) write_reload(static_cast<u16>(value));
}

void I6300Esb::write_reload(u16 value) {
  if (value & kReloadTimer && enabled_) start_stage(0);
  if (value & kTimeout) timed_out_ = false;
}

/// After the first stage the second one runs; free-running timers start anew without a consequence.
void I6300Esb::on_alarm() {
  bool expired = false;
  {
    Lock lock(mutex_);
    if (!deadline_ns_) return;
    if (clock_.now_ns() < deadline_ns_) return alarm_->arm_at(deadline_ns_);
    if (stage_ == 0) return start_stage(1);
    if (free_running_) return start_stage(0);
    timed_out_ = true;
    expired = !output_disabled_;
    stop();
  }
  if (expired) system_.report_watchdog();
}

}  // namespace atl::devices
