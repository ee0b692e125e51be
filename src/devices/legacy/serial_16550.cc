#include "devices/legacy/serial_16550.h"

namespace atl::devices {
namespace {

enum Register : u64 { kData = 0, kInterruptEnable = 1, kInterruptId = 2, kLineControl = 3, kModemControl = 4,
                      kLineStatus = 5, kModemStatus = 6, kScratch = 7 };

enum Ier : u8 { kIerReceive = 1, kIerTransmit = 2, kIerLine = 4, kIerModem = 8 };
enum Iir : u8 { kIirModem = 0x00, kIirNone = 0x01, kIirTransmit = 0x02, kIirReceive = 0x04, kIirLine = 0x06,
                kIirTimeout = 0x0c, kIirFifos = 0xc0 };
enum Fcr : u8 { kFcrEnable = 1, kFcrClearReceive = 2, kFcrClearTransmit = 4 };
enum Lcr : u8 { kLcrTwoStops = 0x04, kLcrParity = 0x08, kLcrBreak = 0x40, kLcrDivisor = 0x80 };
enum Mcr : u8 { kMcrDtr = 1, kMcrRts = 2, kMcrOut1 = 4, kMcrOut2 = 8, kMcrLoop = 0x10 };
enum Lsr : u8 { kLsrReady = 1, kLsrOverrun = 2, kLsrBreak = 0x10, kLsrErrors = 0x1e, kLsrHoldingEmpty = 0x20,
                kLsrEmpty = 0x40, kLsrFifoError = 0x80 };
enum Msr : u8 { kMsrDeltas = 0x0f, kMsrCts = 0x10, kMsrDsr = 0x20, kMsrRi = 0x40, kMsrDcd = 0x80 };

constexpr size_t kFifoBytes = 16;
constexpr u8 kConnected = kMsrCts | kMsrDsr | kMsrDcd;
constexpr u64 kDivisorClockHz = 115200;  // 1.8432 MHz / 16

}  // namespace

Serial16550::Serial16550(cpu::IrqLine& irq, DeviceClock& clock, CharBackend* backend)
    : irq_(irq), clock_(clock), backend_(backend), timeout_alarm_(clock.create_alarm([this] { on_timeout(); })) {
  reset();
  attach();
}

Serial16550::~Serial16550() {
  if (backend_) backend_->detach();
}

void Serial16550::attach() {
  if (!backend_) return;
  backend_->attach({.can_receive = [this] { return can_receive(); },
                    .receive = [this](std::span<const u8> data) { receive(data); },
                    .event = [this](CharEvent event) { on_event(event); },
                    .writable = [this] { on_writable(); }});
}

void Serial16550::reset() {
  Lock lock(mutex_);
  clear();
  irq_.set(false);
}

void Serial16550::clear() {
  fifo_.clear();
  divisor_ = 12;
  interrupt_enable_ = fifo_control_ = line_control_ = modem_control_ = scratch_ = sticky_errors_ = 0;
  modem_status_ = backend_ ? kConnected : 0;
  transmit_pending_ = timed_out_ = held_ = false;
}

void Serial16550::visit(Archive& archive) {
  Lock lock(mutex_);
  archive.field(1, "divisor", divisor_);
  archive.field(2, "interrupt_enable", interrupt_enable_);
  archive.field(3, "fifo_control", fifo_control_);
  archive.field(4, "line_control", line_control_);
  archive.field(5, "modem_control", modem_control_);
  archive.field(6, "modem_status", modem_status_);
  archive.field(7, "scratch", scratch_);
  archive.field(8, "sticky_errors", sticky_errors_);
  archive.field(9, "transmit_pending", transmit_pending_);
  archive.field(10, "timed_out", timed_out_);
  archive.field(11, "held", held_);
  archive.field(12, "held_byte", held_byte_);
  visit_fifo(archive);
  if (archive.loading()) {
    interrupt_enable_ &= 0x0f;
    update_interrupt();
    arm_timeout();
  }
}

void Serial16550::visit_fifo(Archive& archive) {
  std::vector<u8> flat;
  for (Received r : fifo_) flat.insert(flat.end(), {r.byte, r.errors});
  archive.blob(13, "fifo", flat, 2 * kFifoBytes);
  if (!archive.loading()) return;
  fifo_.clear();
  for (size_t i = 0; i + 1 < flat.size(); i += 2) fifo_.push_back({flat[i], static_cast<u8>(flat[i + 1] & kLsrErrors)});
}

u8 Serial16550::read_byte(u64 offset) {
  bool was_full = false;
  u8 value = 0xff;
  {
    Lock lock(mutex_);
    const bool divisor = line_control_ & kLcrDivisor;
    switch (offset) {
      case kData:
        was_full = fifo_.size() >= capacity();
        value = divisor ? static_cast<u8>(divisor_) : read_receiver();
        break;
      case kInterruptEnable: value = divisor ? static_cast<u8>(divisor_ >> 8) : interrupt_enable_; break;
      case kInterruptId: value = read_interrupt_id(); break;
      case kLineControl: value = line_control_; break;
      case kModemControl: value = modem_control_; break;
      case kLineStatus: value = read_line_status(); break;
      case kModemStatus: value = read_modem_status(); break;
      case kScratch: value = scratch_; break;
      default: break;
    }
  }
  if (was_full && backend_) backend_->accept_input();
  return value;
}

void Serial16550::write_byte(u64 offset, u8 value) {
  bool accept = false;
  {
    Lock lock(mutex_);
    const bool divisor = line_control_ & kLcrDivisor;
    switch (offset) {
      case kData:
        if (divisor) divisor_ = static_cast<u16>((divisor_ & 0xff00) | value);
        else transmit(value);
        break;
      case kInterruptEnable:
        if (divisor) {
          divisor_ = static_cast<u16>((divisor_ & 0x00ff) | value << 8);
        } else {
          // Enabling the transmit interrupt while the holding register is empty raises it at once.
          if (value & ~interrupt_enable_ & kIerTransmit && !held_) transmit_pending_ = true;
          interrupt_enable_ = value & 0x0f;
        }
        break;
      case kInterruptId:
        accept = value & kFcrClearReceive || (value ^ fifo_control_) & kFcrEnable;
        write_fifo_control(value);
        break;
      case kLineControl: write_line_control(value); break;
      case kModemControl:
        accept = modem_control_ & ~value & kMcrLoop;
        write_modem_control(value);
        break;
      case kScratch: scratch_ = value; break;
      default: break;  // LSR and MSR: writes are for factory test only
    }
    update_interrupt();
  }
  if (accept && backend_) backend_->accept_input();
}

u8 Serial16550::read_receiver() {
  if (fifo_.empty()) return 0;
  Received character = fifo_.front();
  fifo_.pop_front();
  // The next character's errors show in LSR when it reaches the top of the FIFO.
  if (!fifo_.empty()) sticky_errors_ |= fifo_.front().errors;
  timed_out_ = false;
  last_activity_ns_ = clock_.now_ns();
  arm_timeout();
  update_interrupt();
  return character.byte;
}

u8 Serial16550::read_interrupt_id() {
  const u8 source = interrupt_source();
  const u8 fifos = fifo_control_ & kFcrEnable ? kIirFifos : 0;
  if (source == kIirTransmit) {
    transmit_pending_ = false;
    update_interrupt();
  }
  return source | fifos;
}

u8 Serial16550::read_line_status() {
  const u8 value = line_status();
  sticky_errors_ = 0;
  update_interrupt();
  return value;
}

u8 Serial16550::read_modem_status() {
  const u8 value = modem_status_;
  modem_status_ &= static_cast<u8>(~kMsrDeltas);
  update_interrupt();
  return value;
}

void Serial16550::write_fifo_control(u8 value) {
  const bool toggled = (value ^ fifo_control_) & kFcrEnable;
  if (value & kFcrClearReceive || toggled) {
    fifo_.clear();
    timed_out_ = false;
    sticky_errors_ &= kLsrOverrun;
  }
  if (value & kFcrClearTransmit || toggled) {
    held_ = false;
    transmit_pending_ = true;
  }
  fifo_control_ = value & (value & kFcrEnable ? 0xc9 : 0);
}

void Serial16550::write_line_control(u8 value) {
  const bool break_begins = value & ~line_control_ & kLcrBreak;
  line_control_ = value;
  if (break_begins && modem_control_ & kMcrLoop) put_received({0, kLsrBreak});
}

/// In loopback the four outputs are wired to the four inputs (data sheet, "Modem Control Register").
void Serial16550::write_modem_control(u8 value) {
  modem_control_ = value & 0x1f;
  u8 inputs = backend_ ? kConnected : 0;
  if (value & kMcrLoop) {
    inputs = static_cast<u8>((value & kMcrRts ? kMsrCts : 0) | (value & kMcrDtr ? kMsrDsr : 0) |
                             (value & kMcrOut1 ? kMsrRi : 0) | (value & kMcrOut2 ? kMsrDcd : 0));
  }
  set_modem_inputs(inputs);
}

void Serial16550::set_modem_inputs(u8 inputs) {
  const u8 before = modem_status_ & 0xf0;
  u8 deltas = static_cast<u8>((before ^ inputs) >> 4);
  if (inputs & kMsrRi) deltas &= static_cast<u8>(~0x04);  // TERI: only the trailing edge counts
  modem_status_ = static_cast<u8>(inputs | (modem_status_ & kMsrDeltas) | deltas);
}

void Serial16550::transmit(u8 byte) {
  transmit_pending_ = false;
  update_interrupt();  // the line drops, so that "empty again" below makes an edge
  if (modem_control_ & kMcrLoop) {
    put_received({byte, 0});
  } else if (backend_ && !held_ && backend_->write({&byte, 1}) == 0) {
    held_ = true;
    held_byte_ = byte;
    return;
  }
  if (!held_) transmit_pending_ = true;
}

void Serial16550::flush_held() {
  if (!held_ || backend_->write({&held_byte_, 1}) == 0) return;
  held_ = false;
  transmit_pending_ = true;
}

void Serial16550::put_received(Received character) {
  if (fifo_.size() >= capacity()) {
    sticky_errors_ |= kLsrOverrun;
    // Without FIFO the new character overwrites the old one; a full FIFO keeps what it has.
    if (fifo_control_ & kFcrEnable) return;
    fifo_.clear();
  }
  if (fifo_.empty()) sticky_errors_ |= character.errors;
  fifo_.push_back(character);
  last_activity_ns_ = clock_.now_ns();
  arm_timeout();
}

u8 Serial16550::line_status() const {
  u8 value = sticky_errors_;
  if (!fifo_.empty()) value |= kLsrReady;
  if (!held_) value |= kLsrHoldingEmpty | kLsrEmpty;
  if (fifo_control_ & kFcrEnable) {
    for (Received r : fifo_) {
      if (r.errors) value |= kLsrFifoError;
    }
  }
  return value;
}

/// The pending source of the highest priority (data sheet, table "Interrupt Control Functions").
u8 Serial16550::interrupt_source() const {
  if (interrupt_enable_ & kIerLine && sticky_errors_ & kLsrErrors) return kIirLine;
  if (interrupt_enable_ & kIerReceive) {
    if (fifo_.size() >= trigger_level()) return kIirReceive;
    if (timed_out_) return kIirTimeout;
  }
  if (interrupt_enable_ & kIerTransmit && transmit_pending_) return kIirTransmit;
  if (interrupt_enable_ & kIerModem && modem_status_ & kMsrDeltas) return kIirModem;
  return kIirNone;
}

/// PCs gate the interrupt with OUT2; in loopback the outputs are inactive.
void Serial16550::update_interrupt() {
  const bool gate = (modem_control_ & (kMcrOut2 | kMcrLoop)) == kMcrOut2;
  irq_.set(gate && interrupt_source() != kIirNone);
}

size_t Serial16550::capacity() const { return fifo_control_ & kFcrEnable ? kFifoBytes : 1; }

size_t Serial16550::trigger_level() const {
  static constexpr size_t kLevels[] = {1, 4, 8, 14};
  return fifo_control_ & kFcrEnable ? kLevels[fifo_control_ >> 6] : 1;
}

/// Four character times (data sheet, "FIFO Interrupt Mode Operation").
u64 Serial16550::timeout_ns() const {
  const u64 bits = 1 + 5 + (line_control_ & 3) + (line_control_ & kLcrParity ? 1 : 0) +
                   (line_control_ & kLcrTwoStops ? 2 : 1);
  const u64 divisor = divisor_ ? divisor_ : 1;
  return 4 * bits * divisor * 1'000'000'000 / kDivisorClockHz;
}

void Serial16550::arm_timeout() {
  if (fifo_control_ & kFcrEnable && !fifo_.empty() && fifo_.size() < trigger_level() && !timed_out_) {
    timeout_alarm_->arm_at(last_activity_ns_ + timeout_ns());
  }
}

size_t Serial16550::can_receive() {
  Lock lock(mutex_);
  if (modem_control_ & kMcrLoop) return 0;  // the receiver is disconnected from its pin
  return capacity() - fifo_.size();
}

void Serial16550::receive(std::span<const u8> data) {
  Lock lock(mutex_);
  if (modem_control_ & kMcrLoop) return;
  for (u8 byte : data) put_received({byte, 0});
  update_interrupt();
}

void Serial16550::on_event(CharEvent event) {
  Lock lock(mutex_);
  if (event != CharEvent::Break || modem_control_ & kMcrLoop) return;
  put_received({0, kLsrBreak});
  update_interrupt();
}

void Serial16550::on_writable() {
  Lock lock(mutex_);
  flush_held();
  update_interrupt();
}

void Serial16550::on_timeout() {
  Lock lock(mutex_);
  if (fifo_.empty() || !(fifo_control_ & kFcrEnable)) return;
  if (clock_.now_ns() < last_activity_ns_ + timeout_ns()) return arm_timeout();
  timed_out_ = true;
  update_interrupt();
}

}  // namespace atl::devices
