// A 105-key PS/2 keyboard. Scan code sets 1 and 2, all commands but those that shape single keys of set 3 (answered with
// Resend, as set 3 itself is).
#pragma once

#include "devices/input/ps2.h"

namespace atl::devices::ps2 {

/// A key by its scan code of set 1, bit 7 for those with prefix 0xe0: what sendkey and QMP call its number.
using Key = u8;
inline constexpr Key kKeyPrint = 0xb7, kKeyPause = 0xc6;

/// Scan code of set 2 to set 1, as the controller translates; unknown codes stay as they are.
u8 set1_of_set2(u8 code);

class Keyboard final : public Device {
 public:
  Keyboard() { reset(); }
  void reset() override;
  void visit(Archive& archive) override;
  void take(u8 byte) override;
  /// A key goes down (again, while it repeats) or up.
  void key(Key key, bool down);
  /// Lights: display::KeyboardLed.
  u8 leds() const { return leds_; }

 private:
  void set_defaults();
  void take_argument(u8 command, u8 byte);
  void put_code(Key key, bool down);
  void put_pause();
  void put_print(bool down);

  u8 set_ = 2, leds_ = 0, repeat_ = 0;
  u8 awaited_by_ = 0;  // command that takes the next byte
  bool scanning_ = true;
};

}  // namespace atl::devices::ps2
