// A program on all engines: what differs, and the smallest program of which that is still true.
//
// The host against the interpreter at the end; the interpreter against the translator at the end, twice with the same
// translation, and with interruptions at random points: what the translator then shows must be a state that the interpreter
// passes through.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cpu/soft/differential/kicker.h"
#include "cpu/soft/differential/native_runner.h"
#include "cpu/soft/differential/program.h"
#include "cpu/soft/differential/soft_runner.h"

namespace atl::soft::differential {

class Trial {
 public:
  using Memory = std::array<u8, kWindowBytes>;

  Trial(NativeRunner& native, const Instructions& instructions, bool interrupt);

  /// One line a difference; empty if there is none.
  std::vector<std::string> run(const Program& program, const Memory& memory);
  /// Removes items for as long as there is a difference.
  Program minimise(Program program, const Memory& memory);

  struct Totals {
    u64 programs = 0, instructions = 0, faults = 0, interruptions = 0;
  };
  const Totals& totals() const { return totals_; }

 private:
  std::vector<std::string> compare_translated(const Case& c, const Memory& memory);
  std::vector<std::string> compare_interrupted(const Case& c, const Memory& memory);
  std::vector<std::string> find_states(const Case& c, const Memory& memory);
  unsigned mnemonic_at(const Case& c, u64 rip) const;
  bool is_repeated(const Case& c, u64 rip) const;

  NativeRunner& native_;
  const Instructions& instructions_;
  SoftRunner interpreter_{Engine::Interpreter}, translator_{Engine::Translator};
  std::unique_ptr<Kicker> kicker_;  // none: no interruptions
  Totals totals_;
  Outcome on_host_, interpreted_, translated_;
  std::vector<Outcome> states_;  // at interruptions
};

}  // namespace atl::soft::differential
