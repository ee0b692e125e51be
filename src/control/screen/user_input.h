// The user's keyboard and mouse, as monitors move them: chords of keys that are held for a while, buttons, movements.
// Control thread.
#pragma once

#include <deque>
#include <functional>
#include <string_view>
#include <vector>

#include "base/loop.h"
#include "base/result.h"

namespace atl::machine {
class Machine;
}

namespace atl::control {

class UserInput {
 public:
  using Chord = std::vector<u8>;  // key numbers (display/keys.h)
  static constexpr u64 kHold_ms = 100;

  UserInput(Loop& loop, std::function<machine::Machine*()> machine);

  /// "ctrl-alt-delete", with names or numbers (0x1c).
  static Result<Chord> parse_chord(std::string_view text);
  /// Presses all keys in order, and releases them in the reverse order after `hold_ms`. Chords wait for each other.
  Status press(Chord chord, u64 hold_ms);
  Status key(u8 number, bool down);
  Status move(i32 dx, i32 dy, i32 dz);
  /// ps2::Mouse::Button bits that are held from now on.
  Status set_buttons(u8 buttons);
  u8 buttons() const { return buttons_; }

 private:
  struct Waiting {
    Chord chord;
    u64 hold_ms;
  };
  void next();
  void release();

  std::function<machine::Machine*()> machine_;
  Loop::Timer timer_;
  std::deque<Waiting> queue_;
  bool holding_ = false;
  u8 buttons_ = 0;
};

}  // namespace atl::control
