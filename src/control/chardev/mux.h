// Several users of one back end: the monitor and serial ports of -nographic and "mon:stdio".
//
// Output of every user goes out. Input goes to the one in focus; Ctrl-a (or -echr) starts a command: h help, x exit,
// b break, c next user, Ctrl-a sends the character itself.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "control/chardev/chardev.h"

namespace atl::control {

/// Owns the back end and the ports. Loop thread, but for what CharBackend allows from any.
class Mux {
 public:
  static Result<std::unique_ptr<Mux>> create(Loop& loop, std::unique_ptr<Chardev> backend, u8 escape,
                                             std::function<void()> on_exit);
  ~Mux();

  /// One more user. The newest one that attached gets the focus.
  CharBackend& add_port(std::string id);
  /// Every user is there: tells the one in focus.
  void start();
  Chardev& backend() { return *backend_; }

 private:
  class Port;
  Mux(Loop& loop, Fd wake, std::unique_ptr<Chardev> backend, u8 escape, std::function<void()> on_exit);
  void receive(std::span<const u8> data);
  void receive_byte(u8 byte);
  void command(u8 byte);
  void focus_on(size_t index);
  void print_help();
  size_t write(std::span<const u8> data);
  void print(std::string_view text);
  void forward_event(CharEvent event);

  Fd wake_;  // a port's user has room again
  Loop::Watch wake_watch_;
  std::unique_ptr<Chardev> backend_;
  const u8 escape_;
  std::function<void()> on_exit_;
  std::vector<std::unique_ptr<Port>> ports_;
  size_t focus_ = 0;
  bool started_ = false;
  bool escaped_ = false;
};

}  // namespace atl::control
