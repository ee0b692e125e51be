#include "cpu/soft/differential/trial.h"

#include <fmt/format.h>

#include <algorithm>

#include "cpu/soft/differential/compare.h"

namespace atl::soft::differential {
namespace {

constexpr Names kTranslated{.first = "interpreted", .second = "translated"};
constexpr size_t kMostInterruptions = 8;
constexpr u64 kMostSteps = 1 << 20;

bool same_registers(const Core& core, const Registers& wanted) {
  return core.rip == wanted.rip && core.gpr == wanted.gpr && core.rflags() == wanted.rflags;
}

bool same_state(const Outcome& a, const Outcome& b) {
  return a.registers.gpr == b.registers.gpr && a.registers.xsave == b.registers.xsave && a.memory == b.memory;
}

}  // namespace

Trial::Trial(NativeRunner& native, const Instructions& instructions, bool interrupt) : native_(native), instructions_(instructions) {
  if (interrupt) kicker_ = std::make_unique<Kicker>(translator_);
}

/// Of the instruction that faulted: some faults are the processor's own affair (compare.cc).
unsigned Trial::mnemonic_at(const Case& c, u64 rip) const {
  u64 at = rip - c.before.rip;
  if (at >= c.bytes.size()) return 0;
  auto d = instructions_.decode(c.mode, std::span(c.bytes).subspan(at));
  return d ? d->in.mnemonic : 0;
}

std::vector<std::string> Trial::run(const Program& program, const Memory& memory) {
  Case c = assemble(program);
  native_.run(c, memory, on_host_);
  u64 before = interpreter_.instructions();
  interpreter_.run(c, memory, interpreted_);
  c.mnemonic = mnemonic_at(c, on_host_.registers.rip);
  ++totals_.programs;
  totals_.instructions += interpreter_.instructions() - before;
  totals_.faults += on_host_.vector != kNoFault;
  std::vector<std::string> lines = differences(c, on_host_, interpreted_);
  if (!lines.empty()) return lines;
  lines = compare_translated(c, memory);
  if (lines.empty() && kicker_) lines = compare_interrupted(c, memory);
  translator_.finish(c);
  return lines;
}

std::vector<std::string> Trial::compare_translated(const Case& c, const Memory& memory) {
  translator_.start(c, memory);
  while (!translator_.resume()) {}
  translator_.snapshot(translated_);
  std::vector<std::string> lines = differences(c, interpreted_, translated_, kTranslated);
  if (lines.empty() && !c.self_modifying) {
    translator_.again(c, memory);
    while (!translator_.resume()) {}
    translator_.snapshot(translated_);
    lines = differences(c, interpreted_, translated_, kTranslated);
    if (!lines.empty()) lines.push_back("(in the second run of the same translation)");
  }
  return lines;
}

std::vector<std::string> Trial::compare_interrupted(const Case& c, const Memory& memory) {
  if (c.self_modifying) translator_.start(c, memory);
  else translator_.again(c, memory);
  states_.clear();
  kicker_->ask();
  while (!translator_.resume()) {
    if (states_.size() == kMostInterruptions) continue;
    translator_.snapshot(states_.emplace_back());
    kicker_->ask();
  }
  kicker_->stop();
  translator_.snapshot(translated_);
  std::vector<std::string> lines = differences(c, interpreted_, translated_, kTranslated);
  if (!lines.empty()) lines.push_back("(after interruptions)");
  else if (!states_.empty()) lines = find_states(c, memory);
  totals_.interruptions += states_.size();
  return lines;
}

/// Steps the interpreter through the program; every state of an interruption must come by, in order.
std::vector<std::string> Trial::find_states(const Case& c, const Memory& memory) {
  std::vector<std::string> lines;
  interpreter_.start(c, memory);
  size_t found = 0;
  bool ended = false;
  for (u64 steps = 0; !ended && found < states_.size() && steps < kMostSteps;) {
    const Outcome& wanted = states_[found];
    bool same = same_registers(interpreter_.core(), wanted.registers);
    if (same) interpreter_.snapshot(interpreted_);
    // A repeated string instruction is one step here, but may be interrupted in the middle.
    bool halfway = !same && interpreter_.core().rip == wanted.registers.rip && is_repeated(c, wanted.registers.rip);
    if ((same && same_state(interpreted_, wanted)) || halfway) ++found;
    else ended = interpreter_.step(), ++steps;
  }
  interpreter_.finish(c);
  if (found == states_.size()) return {};
  const Registers& r = states_[found].registers;
  return {fmt::format("interruption {}: the interpreter does not pass through the state at {:#x}, rflags {:#x}, rax {:#x}", found, r.rip,
                      r.rflags, r.gpr[0])};
}

bool Trial::is_repeated(const Case& c, u64 rip) const {
  u64 at = rip - c.before.rip;
  if (at >= c.bytes.size()) return false;
  auto d = instructions_.decode(c.mode, std::span(c.bytes).subspan(at));
  return d && (d->in.attributes & kRepeatPrefixes);
}

/// The end of a part stays: what follows it is not meant to be run into.
Program Trial::minimise(Program program, const Memory& memory) {
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (Item& item : program.items) {
      bool is_end = item.bytes.size() == 1 && item.bytes[0] == 0xcc;
      if (item.bytes.empty() || is_end) continue;
      Item removed = std::exchange(item, {});
      if (run(program, memory).empty()) item = std::move(removed);
      else smaller = true;
    }
  }
  return program;
}

}  // namespace atl::soft::differential
