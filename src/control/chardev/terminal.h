// The controlling terminal in raw mode, and back: at exit, on crash signals, and around a stop (SIGTSTP, SIGCONT).
#pragma once

namespace atl::control {

/// One object for the whole process owns the terminal's settings while it exists.
class Terminal {
 public:
  /// Puts standard input (if it is a terminal) in raw mode and both standard descriptors in non-blocking mode. With
  /// `signals`, Ctrl-C, Ctrl-\ and Ctrl-Z still raise signals.
  explicit Terminal(bool signals);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  /// Gives the terminal back as it was found, and takes it again. Safe to call without an object: nothing happens then.
  static void restore();
  static void enter_again();
  /// Stops the process as a shell expects it: terminal restored while stopped, raw again afterwards.
  static void suspend();
};

}  // namespace atl::control
