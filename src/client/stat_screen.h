// A terminal for a picture that stays in place: keys come one by one, and what was on it comes back at the end
// (console_codes(4); xterm's alternate screen).
#pragma once

#include <termios.h>

#include <string>

namespace atl::client {

/// What the interrupt key sends while the screen is ours.
constexpr char kInterruptKey = 3;

class Screen {
 public:
  Screen();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  /// As many lines of the text as fit, cut at the right edge.
  void show(const std::string& text);
  /// 0 if none was pressed in time; kInterruptKey also if the terminal went away.
  char wait_key(double seconds);

 private:
  termios before_{};
};

}  // namespace atl::client
