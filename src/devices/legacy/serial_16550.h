// 16550A UART (National Semiconductor PC16550D data sheet) over a CharBackend.
// Supported: both FIFOs' registers, all interrupt sources with their priorities, receive time-out, loopback, break,
//   modem status, divisor latch. Transmission takes no time: the divisor only sets the receive time-out.
// Missing: DMA mode, 16750's extensions.
// Threads: registers from vCPU threads, receive() from the back end's loop, the time-out from the clock's loop; one mutex.
#pragma once

#include <deque>
#include <memory>

#include "base/char_backend.h"
#include "base/sync.h"
#include "cpu/vm.h"
#include "devices/device.h"
#include "devices/legacy/byte_ports.h"
#include "devices/legacy/device_clock.h"

namespace atl::devices {

class Serial16550 final : public Device, public BytePorts {
 public:
  static constexpr u64 kPorts = 8;

  /// `backend` may be nullptr: output is lost, nothing is received.
  Serial16550(cpu::IrqLine& irq, DeviceClock& clock, CharBackend* backend);
  ~Serial16550() override;

  std::string_view type() const override { return "isa-serial"; }
  void reset() override;
  void visit(Archive& archive) override;

 private:
  struct Received {
    u8 byte = 0;
    u8 errors = 0;  // LSR bits that belong to this character
  };

  u8 read_byte(u64 offset) override;
  void write_byte(u64 offset, u8 value) override;
  void visit_fifo(Archive& archive) REQUIRES(mutex_);

  void clear() REQUIRES(mutex_);
  u8 read_receiver() REQUIRES(mutex_);
  u8 read_interrupt_id() REQUIRES(mutex_);
  u8 read_line_status() REQUIRES(mutex_);
  u8 read_modem_status() REQUIRES(mutex_);
  void write_fifo_control(u8 value) REQUIRES(mutex_);
  void write_modem_control(u8 value) REQUIRES(mutex_);
  void write_line_control(u8 value) REQUIRES(mutex_);
  void transmit(u8 byte) REQUIRES(mutex_);
  void flush_held() REQUIRES(mutex_);
  void put_received(Received character) REQUIRES(mutex_);
  void set_modem_inputs(u8 inputs) REQUIRES(mutex_);

  u8 line_status() const REQUIRES(mutex_);
  u8 interrupt_source() const REQUIRES(mutex_);
  void update_interrupt() REQUIRES(mutex_);
  size_t capacity() const REQUIRES(mutex_);
  size_t trigger_level() const REQUIRES(mutex_);
  u64 timeout_ns() const REQUIRES(mutex_);
  void arm_timeout() REQUIRES(mutex_);

  void attach();
  size_t can_receive();
  void receive(std::span<const u8> data);
  void on_event(CharEvent event);
  void on_writable();
  void on_timeout();

  cpu::IrqLine& irq_;
  DeviceClock& clock_;
  CharBackend* const backend_;
  std::unique_ptr<Alarm> timeout_alarm_;

  Mutex mutex_;
  std::deque<Received> fifo_ GUARDED_BY(mutex_);
  u16 divisor_ GUARDED_BY(mutex_) = 12;
  u8 interrupt_enable_ GUARDED_BY(mutex_) = 0;
  u8 fifo_control_ GUARDED_BY(mutex_) = 0;
  u8 line_control_ GUARDED_BY(mutex_) = 0;
  u8 modem_control_ GUARDED_BY(mutex_) = 0;
  u8 modem_status_ GUARDED_BY(mutex_) = 0;
  u8 scratch_ GUARDED_BY(mutex_) = 0;
  u8 sticky_errors_ GUARDED_BY(mutex_) = 0;    // LSR bits until LSR is read
  bool transmit_pending_ GUARDED_BY(mutex_) = false;  // the "transmitter empty" interrupt waits to be seen
  bool timed_out_ GUARDED_BY(mutex_) = false;
  u64 last_activity_ns_ GUARDED_BY(mutex_) = 0;
  bool held_ GUARDED_BY(mutex_) = false;       // one byte that the back end had no room for
  u8 held_byte_ GUARDED_BY(mutex_) = 0;
};

}  // namespace atl::devices
