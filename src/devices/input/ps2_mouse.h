// A PS/2 mouse with wheel and five buttons (IntelliMouse and Explorer, by the sample rate knocks that drivers send).
#pragma once

#include "devices/input/ps2.h"

namespace atl::devices::ps2 {

class Mouse final : public Device {
 public:
  enum Button : u8 { kLeft = 1, kRight = 2, kMiddle = 4, kSide = 8, kExtra = 16 };

  Mouse() { reset(); }
  void reset() override;
  void visit(Archive& archive) override;
  void take(u8 byte) override;
  /// Right and down are positive; the wheel towards the user too. `buttons` are those held now.
  void move(i32 dx, i32 dy, i32 dz, u8 buttons);

 private:
  void set_defaults();
  void take_argument(u8 command, u8 byte);
  void set_sample_rate(u8 rate);
  void take_command(u8 byte);
  u8 status() const;
  bool put_packet();

  u8 id_ = 0, rate_ = 100, resolution_ = 2, buttons_ = 0;
  u8 knock_[2] = {0, 0};        // the sample rates set before this one
  u8 awaited_by_ = 0;
  bool remote_ = false, wrap_ = false, reporting_ = false, double_scale_ = false;
  i32 dx_ = 0, dy_ = 0, dz_ = 0;  // not reported yet
};

}  // namespace atl::devices::ps2
