// A virtual machine whose vCPUs run no guest code, for what only monitors and test programs drive (-accel qtest). All else is
// what the machine below does; who wants to can watch its interrupt lines.
#pragma once

#include <functional>
#include <memory>

#include "cpu/vm.h"

namespace atl::machine {

class IdleVm : public cpu::Vm {
 public:
  /// Called with each change of an interrupt line, by the thread that makes it.
  using LineListener = std::function<void(u32 gsi, bool level)>;

  static std::unique_ptr<IdleVm> create(std::unique_ptr<cpu::Vm> below);
  /// Once; the lines that are active now are told at once. Control thread.
  virtual void watch_lines(LineListener listener) = 0;
};

}  // namespace atl::machine
