// What monitors work on, without a guest: for tests and fuzzing.
#pragma once

#include "control/fake_machine.h"
#include "control/vm_control.h"

namespace atl::control {

struct FakeVm {
  FakeVm() { control.set_machine(&machine); }
  ~FakeVm() { control.set_machine(nullptr); }

  std::unique_ptr<Loop> loop = make_loop();
  CommandLine line;
  std::unique_ptr<CharSet> chars = make_chars();
  VmControl control{*loop, line, *chars};
  FakeMachine machine{line.machine};

 private:
  static std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }  // io_uring works where the tests run
  std::unique_ptr<CharSet> make_chars() { return MUST(CharSet::create(*loop, line.program, [] {})); }  // opens nothing
};

}  // namespace atl::control
