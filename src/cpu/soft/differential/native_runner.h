// Runs a case on this host: the instruction itself between a state load and a trap, with signals for whatever it raises.
//
// The pages of code are full of INT3, so that a case is followed by a trap and a branch lands on one; faults come as
// signals with the processor's vector and error code. One runner a process, on one thread.
#pragma once

#include <memory>

#include "base/fd.h"
#include "base/mapping.h"
#include "base/result.h"
#include "cpu/soft/differential/case.h"

namespace atl::soft::differential {

class NativeRunner {
 public:
  static Result<std::unique_ptr<NativeRunner>> create();
  ~NativeRunner();
  NativeRunner(const NativeRunner&) = delete;
  NativeRunner& operator=(const NativeRunner&) = delete;

  void run(const Case& c, std::span<const u8> memory, Outcome& out);

 private:
  NativeRunner() = default;
  Status map();
  Status install_handlers();
  static void protect_code(bool writable);

  Fd window_fd_, code_fd_;
  Mapping window_, code_;    // writable views
  Mapping stack_;            // of the signal handler
};

}  // namespace atl::soft::differential
