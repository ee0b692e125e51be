#include "devices/legacy/rtc.h"

#include <algorithm>
#include <ctime>
#include <limits>

namespace atl::devices {
namespace {

enum Index : u8 { kSeconds = 0, kSecondsAlarm = 1, kMinutes = 2, kMinutesAlarm = 3, kHours = 4, kHoursAlarm = 5,
                  kWeekday = 6, kDay = 7, kMonth = 8, kYear = 9, kRegA = 10, kRegB = 11, kRegC = 12, kRegD = 13,
                  kCentury = 0x32 };
enum RegA : u8 { kUip = 0x80, kDividerMask = 0x70, kDividerRuns = 0x20, kRateMask = 0x0f };
enum RegB : u8 { kSet = 0x80, kPie = 0x40, kAie = 0x20, kUie = 0x10, kSqwe = 0x08, kBinary = 0x04, k24Hours = 0x02 };
enum RegC : u8 { kIrqf = 0x80, kPf = 0x40, kAf = 0x20, kUf = 0x10 };
constexpr u8 kVrt = 0x80;  // register D: the battery is good

constexpr i64 kSecond = 1'000'000'000;
constexpr i64 kLastSecond = 7'258'118'400;  // the year 2200, with room for what is added later
constexpr i64 kUpdateWarning = 8 * kSecond / 32768;  // UIP is set this long before an update
constexpr u8 kDontCare = 0xc0;
constexpr i64 kNever = std::numeric_limits<i64>::max();

constexpr i64 floor_div(i64 a, i64 b) { return a / b - (a % b < 0 ? 1 : 0); }

bool is_time(u8 index) {
  return index == kSeconds || index == kMinutes || index == kHours || (index >= kWeekday && index <= kYear) ||
         index == kCentury;
}

}  // namespace

Rtc::Rtc(cpu::IrqLine& irq, DeviceClock& clock, RtcOptions options)
    : irq_(irq), clock_(clock), options_(std::move(options)), alarm_(clock.create_alarm([this] { on_alarm(); })),
      offset_ns_(options_.offset_ns) {
  Lock lock(mutex_);
  cmos_[kRegA] = kDividerRuns | 6;
  cmos_[kRegB] = k24Hours;
  cmos_[kRegD] = kVrt;
  restart_events();
}

/// The RESET pin clears the interrupt enables and flags (data sheet, "RESET").
void Rtc::reset() {
  Lock lock(mutex_);
  cmos_[kRegB] &= static_cast<u8>(~(kPie | kAie | kUie | kSqwe));
  cmos_[kRegC] = 0;
  index_ = 0;
  restart_events();
  update_interrupt();
}

void Rtc::visit(Archive& archive) {
  Lock lock(mutex_);
  i64 date = date_ns();
  archive.bytes(1, "cmos", cmos_);
  archive.field(2, "index", index_);
  archive.field(3, "date_ns", date);
  if (!archive.loading()) return;
  index_ &= kCmosBytes - 1;
  offset_ns_ = date - options_.time_source_ns();
  restart_events();
  update_interrupt();
  arm();
}

void Rtc::set_cmos(u8 index, u8 value) {
  Lock lock(mutex_);
  CHECK(index > kRegD && index < kCmosBytes);
  cmos_[index] = value;
}

u8 Rtc::read_byte(u64 offset) {
  Lock lock(mutex_);
  if (offset == 0) return 0xff;  // the index is write-only
  if (is_time(index_)) return read_time(index_);
  switch (index_) {
    case kRegA: {
      const i64 into_second = date_ns() - floor_div(date_ns(), kSecond) * kSecond;
      return cmos_[kRegA] | (counting() && into_second >= kSecond - kUpdateWarning ? u8{kUip} : u8{0});
    }
    case kRegC: return read_flags();
    case kRegD: return kVrt;
    default: return cmos_[index_];
  }
}

void Rtc::write_byte(u64 offset, u8 value) {
  bool was_set = false;
  i64 change = 0;
  {
    Lock lock(mutex_);
    if (offset == 0) {
      index_ = value & (kCmosBytes - 1);  // bit 7 masks NMI, which this board does not gate
      return;
    }
    write_register(index_, value);
    was_set = std::exchange(time_was_set_, false);
    change = (offset_ns_ - options_.offset_ns) / kSecond;
  }
  if (was_set && options_.on_change) options_.on_change(change);
}

void Rtc::write_register(u8 index, u8 value) {
  if (is_time(index)) {
    if (counting()) freeze();  // one register changes, the others keep the current time
    cmos_[index] = value;
    if (counting()) set_from_registers();
    return;
  }
  switch (index) {
    case kRegA: write_divider(value); break;
    case kRegB: write_control(value); break;
    case kRegC:
    case kRegD: return;  // read-only
    default: cmos_[index] = value; break;
  }
  update_interrupt();
  arm();
}

/// A divider held in reset stops the clock where it is.
void Rtc::write_divider(u8 value) {
  collect_events();
  const bool was_counting = counting();
  if (was_counting) freeze();
  cmos_[kRegA] = value & static_cast<u8>(~kUip);
  if (counting() && !was_counting) set_from_registers(kSecond / 2);  // data sheet: the first update is half a second later
  restart_events();
}

void Rtc::write_control(u8 value) {
  collect_events();
  const u8 before = cmos_[kRegB];
  if (value & ~before & kSet) {
    freeze();
    value &= static_cast<u8>(~kUie);  // data sheet: SET clears UIE
  }
  cmos_[kRegB] = value;
  if (before & ~value & kSet) set_from_registers();
  if (value & ~before & kPie) restart_events();
}

/// Copies the running time into the registers, where the guest may change it.
void Rtc::freeze() {
  const Date date = current_date();
  cmos_[kSeconds] = encode(date.second);
  cmos_[kMinutes] = encode(date.minute);
  cmos_[kHours] = encode_hour(date.hour);
  cmos_[kWeekday] = encode(date.weekday + 1);
  cmos_[kDay] = encode(date.day);
  cmos_[kMonth] = encode(date.month);
  cmos_[kYear] = encode(date.year % 100);
  cmos_[kCentury] = encode(date.year / 100);
}

void Rtc::set_from_registers(i64 into_second) {
  std::tm date{};
  date.tm_sec = decode(cmos_[kSeconds]);
  date.tm_min = decode(cmos_[kMinutes]);
  date.tm_hour = decode_hour(cmos_[kHours]);
  date.tm_mday = decode(cmos_[kDay]);
  date.tm_mon = decode(cmos_[kMonth]) - 1;
  date.tm_year = decode(cmos_[kCentury]) * 100 + decode(cmos_[kYear]) - 1900;
  // Registers can hold years that 64 bits of nanoseconds cannot: such a clock stands at the end of what they can.
  const i64 seconds = std::clamp<i64>(::timegm(&date), 0, kLastSecond);
  offset_ns_ = seconds * kSecond + into_second - options_.time_source_ns();
  time_was_set_ = true;
  restart_events();
  arm();
}

u8 Rtc::read_time(u8 index) {
  if (counting()) freeze();
  return cmos_[index];
}

u8 Rtc::read_flags() {
  collect_events();
  const u8 value = cmos_[kRegC];
  cmos_[kRegC] = 0;
  update_interrupt();
  arm();
  return value;
}

bool Rtc::counting() const {
  return !(cmos_[kRegB] & kSet) && (cmos_[kRegA] & kDividerMask) <= kDividerRuns;
}

i64 Rtc::date_ns() const { return options_.time_source_ns() + offset_ns_; }

Rtc::Date Rtc::current_date() const {
  const std::time_t seconds = floor_div(date_ns(), kSecond);
  std::tm t{};
  ::gmtime_r(&seconds, &t);
  return {t.tm_sec, t.tm_min, t.tm_hour, t.tm_mday, t.tm_mon + 1, t.tm_year + 1900, t.tm_wday};
}

u8 Rtc::encode(int value) const {
  return static_cast<u8>(cmos_[kRegB] & kBinary ? value : (value / 10) << 4 | value % 10);
}

int Rtc::decode(u8 value) const { return cmos_[kRegB] & kBinary ? value : (value >> 4) * 10 + (value & 15); }

u8 Rtc::encode_hour(int hour) const {
  if (cmos_[kRegB] & k24Hours) return encode(hour);
  return encode(hour % 12 ? hour % 12 : 12) | (hour >= 12 ? u8{0x80} : u8{0});
}

int Rtc::decode_hour(u8 value) const {
  if (cmos_[kRegB] & k24Hours) return decode(value);
  return decode(value & 0x7f) % 12 + (value & 0x80 ? 12 : 0);
}

/// Data sheet, table "Periodic Interrupt Rate", 32.768 kHz time base. 0: no periodic events.
u64 Rtc::period_ns() const {
  unsigned rate = cmos_[kRegA] & kRateMask;
  if (rate == 0 || (cmos_[kRegA] & kDividerMask) > kDividerRuns) return 0;
  if (rate <= 2) rate += 7;  // the two lowest codes repeat 3.9 and 7.8 ms
  return (u64{1'000'000'000} << (rate - 1)) / 32768;
}

bool Rtc::alarm_matches(u8 index, int value) const {
  const u8 wanted = cmos_[index];
  if ((wanted & kDontCare) == kDontCare) return true;
  return (index == kHoursAlarm ? decode_hour(wanted) : decode(wanted)) == value;
}

/// The first alarm at a full second after `date`, or kNever (an alarm time that no clock shows).
i64 Rtc::next_alarm_after(i64 date) const {
  const i64 first = floor_div(date, kSecond) + 1;
  for (i64 t = first; t <= first + 86400;) {
    const int of_day = static_cast<int>(t - floor_div(t, 86400) * 86400);
    if (!alarm_matches(kHoursAlarm, of_day / 3600)) t += 3600 - of_day % 3600;
    else if (!alarm_matches(kMinutesAlarm, of_day / 60 % 60)) t += 60 - of_day % 60;
    else if (!alarm_matches(kSecondsAlarm, of_day % 60)) ++t;
    else return t * kSecond;
  }
  return kNever;
}

/// Sets the flags of all that happened since the last call.
void Rtc::collect_events() {
  u8& flags = cmos_[kRegC];
  const u64 now = clock_.now_ns();
  // When catching up, each tick waits until the guest has seen the one before.
  const bool tick_waits = options_.catch_up_ticks && flags & kPf;
  if (const u64 period = period_ns(); period && next_period_ns_ <= now && !tick_waits) {
    flags |= kPf;
    next_period_ns_ += options_.catch_up_ticks ? period : ((now - next_period_ns_) / period + 1) * period;
  }
  if (counting()) {
    const i64 date = date_ns();
    if (floor_div(date, kSecond) > floor_div(events_seen_, kSecond)) flags |= kUf;
    if (next_alarm_after(events_seen_) <= date) flags |= kAf;
    events_seen_ = date;
  }
}

void Rtc::drop_missed_ticks() {
  Lock lock(mutex_);
  const u64 period = period_ns(), now = clock_.now_ns();
  if (period && next_period_ns_ < now) next_period_ns_ += (now - next_period_ns_ + period - 1) / period * period;
  arm();
}

void Rtc::restart_events() {
  events_seen_ = date_ns();
  next_period_ns_ = clock_.now_ns() + period_ns();
}

void Rtc::update_interrupt() {
  u8& flags = cmos_[kRegC];
  const bool pending = flags & cmos_[kRegB] & (kPie | kAie | kUie);
  flags = static_cast<u8>((flags & ~kIrqf) | (pending ? kIrqf : 0));
  irq_.set(pending);
}

/// Arms for the next enabled event; none while the line is up, for then nothing can change until the guest reads C.
void Rtc::arm() {
  const u8 enabled = cmos_[kRegB];
  if (cmos_[kRegC] & kIrqf || !(enabled & (kPie | kAie | kUie))) return alarm_->cancel();
  const u64 now = clock_.now_ns();
  u64 next = std::numeric_limits<u64>::max();
  if (enabled & kPie && period_ns()) next = next_period_ns_;
  if (counting()) {
    const i64 date = date_ns();
    i64 at = kNever;
    if (enabled & kUie) at = (floor_div(date, kSecond) + 1) * kSecond;
    if (enabled & kAie) at = std::min(at, next_alarm_after(date));
    if (at != kNever) next = std::min(next, now + static_cast<u64>(at - date));
  }
  if (next != std::numeric_limits<u64>::max()) alarm_->arm_at(next);
}

void Rtc::on_alarm() {
  bool alarm = false;
  {
    Lock lock(mutex_);
    collect_events();
    alarm = cmos_[kRegC] & cmos_[kRegB] & kAie;
    update_interrupt();
    arm();
  }
  if (alarm && options_.on_alarm) options_.on_alarm();
}

}  // namespace atl::devices
