#include "sequences.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>

#include "cpu/soft/differential/program_generator.h"
#include "cpu/soft/differential/trial.h"

namespace atl::soft::differential {
namespace {

using Clock = std::chrono::steady_clock;

constexpr time_t kMostSeconds = 60;  // of CPU time, for 64 programs

void print_lines(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) fmt::print("  {}\n", line);
}

void print_registers(const Registers& r) {
  for (unsigned i = 0; i < 16; ++i) fmt::print("  r{} = {:#x}{}", i, r.gpr[i], i % 4 == 3 ? "\n" : "");
  fmt::print("  rflags = {:#x}\n", r.rflags);
}

void report(u64 index, const SequenceOptions& options, const Program& program, const Trial::Memory& memory, Trial& trial,
            const ProgramGenerator& generator, const std::vector<std::string>& lines) {
  fmt::print("program {} (--seed {} --first {} --sequences 1), {} bits, {} items:\n", index, options.seed, index,
             program.mode == Mode::Long ? 64 : 32, program.items.size());
  print_lines(lines);
  std::fflush(stdout);
  Program small = trial.minimise(program, memory);
  fmt::print("made smaller:\n{}", listing(assemble(small), generator.instructions()));
  print_lines(trial.run(small, memory));
  print_registers(small.before);
  std::fflush(stdout);
}

std::atomic<u64>& current_index() {
  static std::atomic<u64> index;
  return index;
}

/// A program that never ends on one of the engines is a difference as well.
void give_up(int) {
  char text[96];
  auto written = fmt::format_to_n(text, sizeof text, "program {} or one of the next 63 does not end\n", current_index().load());
  static_cast<void>(!::write(1, text, written.size));
  ::_exit(1);
}

void watch(u64 index) {
  current_index() = index;
  itimerval limit{.it_interval = {}, .it_value = {.tv_sec = kMostSeconds, .tv_usec = 0}};
  ::signal(SIGPROF, give_up);
  ::setitimer(ITIMER_PROF, &limit, nullptr);
}

}  // namespace

bool run_sequences(const SequenceOptions& options, NativeRunner& native) {
  ProgramGenerator generator(options.seed);
  Trial trial(native, generator.instructions(), options.interrupt);
  Trial::Memory memory;
  auto start = Clock::now();
  auto end = start + std::chrono::seconds(options.seconds);
  u64 differing = 0, done = 0;
  for (u64 i = options.first; done < options.sequences && differing < options.stop_after; ++i, ++done) {
    if (done % 64 == 0 && Clock::now() >= end) break;
    if (done % 64 == 0) watch(i);
    Program program = generator.make(i, memory);
    std::vector<std::string> lines = trial.run(program, memory);
    if (lines.empty()) continue;
    ++differing;
    report(i, options, program, memory, trial, generator, lines);
  }
  double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const Trial::Totals& t = trial.totals();
  fmt::print("{} programs, {} instructions, {} faults, {} interruptions, {} differing; {:.0f} instructions a second\n", done, t.instructions,
             t.faults, t.interruptions, differing, static_cast<double>(t.instructions) / seconds);
  return differing == 0;
}

}  // namespace atl::soft::differential
