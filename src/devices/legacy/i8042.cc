#include "devices/legacy/i8042.h"

namespace atl::devices {
namespace {

enum Status : u8 { kOutputFull = 0x01, kSystemFlag = 0x04, kWasCommand = 0x08, kUnlocked = 0x10, kAuxFull = 0x20 };
enum CommandByte : u8 { kKeyboardIrq = 0x01, kMouseIrq = 0x02, kSystem = 0x04, kKeyboardOff = 0x10, kMouseOff = 0x20,
                        kTranslate = 0x40 };
enum OutputPort : u8 { kNotReset = 0x01, kA20 = 0x02, kKeyboardFull = 0x10, kMouseFull = 0x20 };
enum Command : u8 {
  kReadCommandByte = 0x20, kWriteCommandByte = 0x60, kDisableMouse = 0xa7, kEnableMouse = 0xa8, kTestMouse = 0xa9,
  kSelfTest = 0xaa, kTestKeyboard = 0xab, kDisableKeyboard = 0xad, kEnableKeyboard = 0xae, kReadInputPort = 0xc0,
  kReadOutputPort = 0xd0, kWriteOutputPort = 0xd1, kPutKeyboardByte = 0xd2, kPutMouseByte = 0xd3, kToMouse = 0xd4,
  kDisableA20 = 0xdd, kEnableA20 = 0xdf, kPulse = 0xf0,
};
constexpr u8 kSelfTestPassed = 0x55;
constexpr u8 kBreakPrefix = 0xf0;
constexpr size_t kOutputLimit = 16;

}  // namespace

I8042::I8042(cpu::IrqLine& keyboard_irq, cpu::IrqLine& mouse_irq, SystemControl& system)
    : keyboard_irq_(keyboard_irq), mouse_irq_(mouse_irq), system_(system) {
  reset();
}

void I8042::reset() {
  Lock lock(mutex_);
  output_.clear();
  keyboard_.reset();
  mouse_.reset();
  command_byte_ = kKeyboardIrq | kMouseIrq | kTranslate;
  output_port_ = kNotReset | kA20;
  awaited_by_ = 0;
  last_was_command_ = break_prefix_ = false;
  keyboard_sink_.set_leds(keyboard_.leds());
  update_interrupts();
}

void I8042::key(ps2::Key key, bool down) {
  Lock lock(mutex_);
  keyboard_.key(key, down);
  refill();
}

void I8042::move(i32 dx, i32 dy, i32 dz, u8 buttons) {
  Lock lock(mutex_);
  mouse_.move(dx, dy, dz, buttons);
  refill();
}

void I8042::visit(Archive& archive) {
  Lock lock(mutex_);
  archive.field(1, "command_byte", command_byte_);
  archive.field(2, "output_port", output_port_);
  archive.field(3, "awaited_by", awaited_by_);
  archive.field(4, "last_was_command", last_was_command_);
  std::vector<u8> flat;
  for (Output o : output_) flat.insert(flat.end(), {o.byte, o.auxiliary});
  archive.blob(5, "output", flat, 2 * kOutputLimit);
  archive.field(6, "break_prefix", break_prefix_);
  archive.part(7, "keyboard", [this](Archive& a) ATL_THREAD_ANNOTATION(no_thread_safety_analysis) { keyboard_.visit(a); });
  archive.part(8, "mouse", [this](Archive& a) ATL_THREAD_ANNOTATION(no_thread_safety_analysis) { mouse_.visit(a); });
  if (!archive.loading()) return;
  output_.clear();
  for (size_t i = 0; i + 1 < flat.size(); i += 2) {
    output_.push_back({flat[i], flat[i + 1] != 0});
  }
  keyboard_sink_.set_leds(keyboard_.leds());
  update_interrupts();
}

u8 I8042::read_byte(u64) {
  Lock lock(mutex_);
  if (output_.empty()) return 0;
  const u8 value = output_.front().byte;
  output_.pop_front();
  update_interrupts();  // the line falls between two bytes
  refill();
  return value;
}

void I8042::write_byte(u64, u8 value) {
  Lock lock(mutex_);
  take_data(value);
}

u8 I8042::read_status() {
  Lock lock(mutex_);
  return status();
}

void I8042::write_command(u8 value) {
  Lock lock(mutex_);
  run_command(value);
}

u8 I8042::status() const {
  u8 value = kUnlocked | (command_byte_ & kSystem ? kSystemFlag : 0) | (last_was_command_ ? kWasCommand : 0);
  if (output_.empty()) return value;
  const Output& next = output_.front();
  return static_cast<u8>(value | kOutputFull | (next.auxiliary ? kAuxFull : 0));
}

void I8042::run_command(u8 command) {
  last_was_command_ = true;
  awaited_by_ = 0;
  if (command >= kPulse) {  // each zero in the low four bits pulses a line of the output port; line 0 resets the CPU
    if (!(command & kNotReset)) system_.request_reset();
    return;
  }
  switch (command) {
    case kReadCommandByte: put({command_byte_}); break;
    case kDisableMouse: command_byte_ |= kMouseOff; break;
    case kEnableMouse:
      command_byte_ &= static_cast<u8>(~kMouseOff);
      refill();
      break;
    case kTestMouse: put({0}); break;
    case kSelfTest:
      command_byte_ |= kSystem;
      put({kSelfTestPassed});
      break;
    case kTestKeyboard: put({0}); break;
    case kDisableKeyboard: command_byte_ |= kKeyboardOff; break;
    case kEnableKeyboard:
      command_byte_ &= static_cast<u8>(~kKeyboardOff);
      refill();
      break;
    case kReadInputPort: put({0x80}); break;  // bit 7: keyboard not locked
    case kReadOutputPort: put({output_port_}); break;
    case kDisableA20: set_output_port(output_port_ & ~kA20); break;
    case kEnableA20: set_output_port(output_port_ | kA20); break;
    case kWriteCommandByte:
    case kWriteOutputPort:
    case kPutKeyboardByte:
    case kPutMouseByte:
    case kToMouse: awaited_by_ = command; break;
    default: break;
  }
}

void I8042::take_data(u8 value) {
  last_was_command_ = false;
  switch (std::exchange(awaited_by_, u8{0})) {
    case kWriteCommandByte:
      command_byte_ = value;
      update_interrupts();
      refill();
      break;
    case kWriteOutputPort: set_output_port(value); break;
    case kPutKeyboardByte: put({value}); break;
    case kPutMouseByte: put({value, true}); break;
    case kToMouse:
      mouse_.take(value);
      refill();
      break;
    default:  // to the keyboard, which switches its interface on
      command_byte_ &= static_cast<u8>(~kKeyboardOff);
      keyboard_.take(value);
      keyboard_sink_.set_leds(keyboard_.leds());
      refill();
      break;
  }
}

void I8042::set_output_port(u8 value) {
  output_port_ = value & (kNotReset | kA20);
  if (!(value & kNotReset)) system_.request_reset();
  output_port_ |= kNotReset;
  update_interrupts();
}

void I8042::put(Output output) {
  if (output_.size() < kOutputLimit) output_.push_back(output);
  update_interrupts();
}

void I8042::refill() {
  while (output_.empty() && !(command_byte_ & kKeyboardOff) && keyboard_.has_output()) {
    const u8 code = keyboard_.next_output();
    const bool translating = command_byte_ & kTranslate;
    if (translating && code == kBreakPrefix) break_prefix_ = true;
    else put({translating ? translate(code) : code});
  }
  if (output_.empty() && !(command_byte_ & kMouseOff) && mouse_.has_output()) put({mouse_.next_output(), true});
}

u8 I8042::translate(u8 code) {
  const u8 break_bit = std::exchange(break_prefix_, false) ? 0x80 : 0;
  return static_cast<u8>(ps2::set1_of_set2(code) | break_bit);
}

void I8042::update_interrupts() {
  const bool full = !output_.empty();
  const bool auxiliary = full && output_.front().auxiliary;
  output_port_ &= static_cast<u8>(~(kKeyboardFull | kMouseFull));
  if (full) output_port_ |= auxiliary ? kMouseFull : kKeyboardFull;
  keyboard_irq_.set(full && !auxiliary && command_byte_ & kKeyboardIrq);
  mouse_irq_.set(auxiliary && command_byte_ & kMouseIrq);
}

}  // namespace atl::devices
