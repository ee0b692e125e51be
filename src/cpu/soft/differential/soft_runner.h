// Runs a case on the interpreter, in a machine whose user-mode memory looks like the test process's.
//
// Its kernel half, in the upper half of the address space, has descriptor tables and a stack, so that exceptions are
// delivered as to a guest kernel; what lies on that stack is the outcome.
#pragma once

#include "cpu/soft/differential/case.h"
#include "cpu/soft/exec/test_machine.h"

namespace atl::soft::differential {

class SoftRunner {
 public:
  SoftRunner();
  void run(const Case& c, std::span<const u8> memory, Outcome& out);

 private:
  void map_user_pages();
  void map_kernel();
  void make_gates();
  void enter(const Case& c);
  void set_segments(Mode mode);
  void read_fault(Outcome& out);
  void write_code(u64 at, std::span<const u8> bytes);

  TestMachine machine_;
};

}  // namespace atl::soft::differential
