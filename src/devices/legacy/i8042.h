// i8042 keyboard controller at ports 0x60 and 0x64 with a keyboard and a mouse (IBM PC AT Technical Reference, "Keyboard
// Controller"; the auxiliary port as on the PS/2).
// Supported: self test, command byte with translation to scan code set 1, output port with A20 and CPU reset, pulse
//   commands, loop-back of output buffer bytes, interrupts 1 and 12.
// Missing: the A20 bit is kept but masks nothing: address line 20 is always driven.
// Threads: registers from vCPU threads, keys and movements from the control thread; one mutex.
#pragma once

#include <deque>

#include "base/sync.h"
#include "cpu/vm.h"
#include "devices/device.h"
#include "devices/input/ps2_keyboard.h"
#include "devices/input/ps2_mouse.h"
#include "devices/legacy/byte_ports.h"
#include "devices/legacy/system_control.h"
#include "display/input.h"

namespace atl::devices {

/// The board maps this to port 0x60 and command_port() to port 0x64.
class I8042 final : public Device, public BytePorts {
 public:
  I8042(cpu::IrqLine& keyboard_irq, cpu::IrqLine& mouse_irq, SystemControl& system);

  std::string_view type() const override { return "i8042"; }
  void reset() override;
  void visit(Archive& archive) override;
  memory::BusDevice& command_port() { return command_port_; }

  // The user's hands.
  void key(ps2::Key key, bool down);
  void move(i32 dx, i32 dy, i32 dz, u8 buttons);
  display::KeySink& keyboard_sink() { return keyboard_sink_; }
  display::PointerSink& mouse_sink() { return mouse_sink_; }

 private:
  struct KeyboardSink final : display::KeySink {
    explicit KeyboardSink(I8042& owner) : owner_(owner) { in_use_.set_always(); }
    std::string_view name() const override { return "QEMU PS/2 Keyboard"; }
    void key(u8 number, bool down) override { owner_.key(number, down); }
    I8042& owner_;
  };
  struct MouseSink final : display::PointerSink {
    explicit MouseSink(I8042& owner) : PointerSink(false), owner_(owner) { in_use_.set_always(); }
    std::string_view name() const override { return "QEMU PS/2 Mouse"; }
    void pointer(const display::PointerEvent& e) override { owner_.move(e.x, e.y, e.wheel, e.buttons); }
    I8042& owner_;
  };
  struct CommandPort final : BytePorts {
    explicit CommandPort(I8042& owner) : owner_(owner) {}
    u8 read_byte(u64) override { return owner_.read_status(); }
    void write_byte(u64, u8 value) override { owner_.write_command(value); }
    I8042& owner_;
  };
  struct Output {
    u8 byte = 0;
    bool auxiliary = false;
  };

  u8 read_byte(u64 offset) override;
  void write_byte(u64 offset, u8 value) override;
  u8 read_status();
  void write_command(u8 value);
  u8 status() const REQUIRES(mutex_);
  void run_command(u8 command) REQUIRES(mutex_);
  void take_data(u8 value) REQUIRES(mutex_);
  void set_output_port(u8 value) REQUIRES(mutex_);
  void put(Output output) REQUIRES(mutex_);
  /// Takes the next byte of a device into the empty output buffer.
  void refill() REQUIRES(mutex_);
  u8 translate(u8 code) REQUIRES(mutex_);
  void update_interrupts() REQUIRES(mutex_);

  cpu::IrqLine& keyboard_irq_;
  cpu::IrqLine& mouse_irq_;
  SystemControl& system_;
  CommandPort command_port_{*this};
  KeyboardSink keyboard_sink_{*this};
  MouseSink mouse_sink_{*this};

  Mutex mutex_;
  std::deque<Output> output_ GUARDED_BY(mutex_);  // bytes of the controller itself may queue, those of devices wait there
  ps2::Keyboard keyboard_ GUARDED_BY(mutex_);
  ps2::Mouse mouse_ GUARDED_BY(mutex_);
  u8 command_byte_ GUARDED_BY(mutex_) = 0;
  u8 output_port_ GUARDED_BY(mutex_) = 0;
  u8 awaited_by_ GUARDED_BY(mutex_) = 0;  // command that takes the next data byte; 0: the keyboard
  bool last_was_command_ GUARDED_BY(mutex_) = false;
  bool break_prefix_ GUARDED_BY(mutex_) = false;  // the keyboard sent 0xf0: the next code is of a key that goes up
};

}  // namespace atl::devices
