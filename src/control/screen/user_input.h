// The user's keyboard and mouse, as monitors move them: chords of keys that are held for a while, buttons, movements.
// Control thread.
#pragma once

#include <deque>
#include <functional>
#include <optional>
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
  /// Steps to the right, down, and of the wheel towards the user.
  Status move(i32 dx, i32 dy, i32 dz);
  /// The place in a picture, 0 to PointerEvent::kMax; what is left out stays.
  Status point(std::optional<i32> x, std::optional<i32> y);
  /// PointerButton bits that are held from now on.
  Status set_buttons(u8 buttons);
  u8 buttons() const { return buttons_; }
  /// Whether the guest's pointer is told places rather than steps.
  bool absolute() const;

 private:
  struct Waiting {
    Chord chord;
    u64 hold_ms;
  };
  void next();
  void release();
  Status tell_pointer(i32 wheel);

  std::function<machine::Machine*()> machine_;
  Loop::Timer timer_;
  std::deque<Waiting> queue_;
  bool holding_ = false;
  u8 buttons_ = 0;
  i32 x_ = 0, y_ = 0;   // the last place
};

}  // namespace atl::control
