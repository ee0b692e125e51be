// Runs a case on the software CPU, in a machine whose user-mode memory looks like the test process's.
//
// Its kernel half, in the upper half of the address space, has descriptor tables and a stack, so that exceptions are
// delivered as to a guest kernel; what lies on that stack is the outcome.
#pragma once

#include <memory>

#include "cpu/soft/differential/case.h"
#include "cpu/soft/exec/test_machine.h"

namespace atl::soft::differential {

enum class Engine { Interpreter, Translator };

class SoftRunner {
 public:
  explicit SoftRunner(Engine engine);
  ~SoftRunner();
  SoftRunner(const SoftRunner&) = delete;
  SoftRunner& operator=(const SoftRunner&) = delete;

  /// A whole case.
  void run(const Case& c, std::span<const u8> memory, Outcome& out);

  // -- a case in parts -------------------------------------------------------------------------------------------------
  void start(const Case& c, std::span<const u8> memory);
  /// Starts again with code as it is, so that what was translated can be used once more.
  void again(const Case& c, std::span<const u8> memory);
  /// Goes on; true if the case has ended, false after interrupt().
  bool resume();
  /// One instruction, whatever the engine; true if the case has ended.
  bool step();
  /// Makes resume() return soon. Any thread.
  void interrupt();
  void snapshot(Outcome& out);
  void finish(const Case& c);

  const Core& core();
  u64 instructions();

 private:
  class EndOfRun;

  void map_user_pages(bool writable_code);
  void map_kernel();
  void make_gates();
  void enter(const Case& c);
  void set_segments(Mode mode);
  void read_fault(Outcome& out);
  void write_code(u64 at, std::span<const u8> bytes);
  bool ended();

  TestMachine machine_;
  std::unique_ptr<EndOfRun> end_of_run_;
  bool alive_ = true;
  bool writable_code_ = false;
};

}  // namespace atl::soft::differential
