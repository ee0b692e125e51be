// An interrupt line with a switch in it: what drives it is heard while the switch is closed, and its level is kept meanwhile.
//
// Threads: any.
#pragma once

#include "base/sync.h"
#include "cpu/vm.h"

namespace atl::devices {

class GatedLine final : public cpu::IrqLine {
 public:
  explicit GatedLine(cpu::IrqLine& line) : line_(line) {}

  void set(bool level) override {
    Lock lock(mutex_);
    level_ = level;
    if (closed_) line_.set(level);
  }
  void connect(bool closed) {
    Lock lock(mutex_);
    if (std::exchange(closed_, closed) == closed) return;
    line_.set(closed && level_);
  }

 private:
  cpu::IrqLine& line_;
  Mutex mutex_;
  bool level_ GUARDED_BY(mutex_) = false, closed_ GUARDED_BY(mutex_) = true;
};

}  // namespace atl::devices
