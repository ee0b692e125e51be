// Signals of the process, served on the control loop: SIGINT, SIGTERM and SIGHUP end the VM in order, SIGTSTP and SIGCONT
// give the terminal back and take it again.
#pragma once

#include <functional>
#include <memory>

#include "base/fd.h"
#include "base/loop.h"
#include "base/result.h"

namespace atl::control {

class Signals {
 public:
  /// Blocks the signals in the calling thread: before other threads exist.
  static Result<std::unique_ptr<Signals>> create(Loop& loop, std::function<void()> on_end);

 private:
  Signals(Loop& loop, Fd fd, std::function<void()> on_end);
  void read_one();

  Fd fd_;
  std::function<void()> on_end_;
  Loop::Watch watch_;
};

}  // namespace atl::control
