// atoll-differential: runs random instructions on the interpreter and on this host, or random programs on the translator too, and
// compares everything architectural.
//
//   --cases N       this many instructions (default: no limit)
//   --sequences N   programs instead of instructions, this many; 0: no limit
//   --quiet         programs are not interrupted
//   --seconds N     at most this long (default 10)
//   --seed S        default: the time, printed
//   --first N       index of the first case, to repeat one that failed
//   --only NAME     one mnemonic, in lower case
//   --stop-after N  differing cases until it gives up (default 10)
//   --exclusions    lists what is left out and why
//
// Exit status: 0 without differences, 1 with, 2 if it could not run.

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "cpu/soft/differential/compare.h"
#include "cpu/soft/differential/exclusions.h"
#include "cpu/soft/differential/generator.h"
#include "cpu/soft/differential/native_runner.h"
#include "cpu/soft/differential/soft_runner.h"
#include "sequences.h"

namespace {

using namespace atl;
using namespace atl::soft::differential;
using Clock = std::chrono::steady_clock;

struct Options {
  u64 cases = ~u64{0}, seconds = 10, first = 0, stop_after = 10;
  u64 seed = static_cast<u64>(std::chrono::system_clock::now().time_since_epoch().count());
  std::string only;
  bool list_exclusions = false, run_programs = false, quiet = false;
  u64 sequences = 0;
};

bool parse_number(const char* text, u64& out) {
  auto [end, error] = std::from_chars(text, text + std::strlen(text), out);
  return error == std::errc() && *end == 0;
}

bool parse(int argc, char** argv, Options& options) {
  const std::map<std::string_view, u64*> numbers = {{"--cases", &options.cases}, {"--seconds", &options.seconds},
                                                    {"--seed", &options.seed}, {"--first", &options.first},
                                                    {"--stop-after", &options.stop_after},
                                                    {"--sequences", &options.sequences}};
  for (int i = 1; i < argc; ++i) {
    std::string_view name = argv[i];
    if (name == "--exclusions" || name == "--quiet") {
      (name == "--quiet" ? options.quiet : options.list_exclusions) = true;
      continue;
    }
    const char* value = i + 1 < argc ? argv[++i] : nullptr;
    auto number = numbers.find(name);
    if (!value || (number == numbers.end() && name != "--only")) return false;
    if (name == "--only") options.only = value;
    else if (!parse_number(value, *number->second)) return false;
    options.run_programs |= name == "--sequences";
  }
  // Repeating one case takes as long as it takes.
  if (options.cases != ~u64{0} || options.sequences != 0) options.seconds = std::max<u64>(options.seconds, 36000);
  return true;
}

void list_exclusions() {
  for (const Exclusion& e : exclusions()) fmt::print("{:12} {}\n", ZydisMnemonicGetString(e.mnemonic), e.reason);
  fmt::print("Also left out: privileged instructions, far transfers, port I/O, loads of segment registers, FS overrides,\n"
             "16-bit addresses, the flags TF, AC and NT, and the x87 instruction and data pointers.\n");
}

struct Totals {
  u64 cases = 0, faults = 0, differing = 0;
  std::map<unsigned, u64> mnemonics;
};

void report(u64 index, const Options& options, const Case& c, const std::vector<std::string>& lines) {
  fmt::print("case {} (--seed {} --first {} --cases 1{}): {}\n", index, options.seed, index,
             options.only.empty() ? "" : " --only " + options.only, describe(c));
  for (const std::string& line : lines) fmt::print("  {}\n", line);
  std::fflush(stdout);
}

Totals run_cases(const Options& options, NativeRunner& native) {
  Totals totals;
  Generator generator(options.seed, options.only);
  SoftRunner soft(Engine::Interpreter);
  auto outcomes = std::make_unique<std::array<Outcome, 2>>();
  std::array<u8, kWindowBytes> memory;
  auto end = Clock::now() + std::chrono::seconds(options.seconds);
  for (u64 i = options.first; totals.cases < options.cases && totals.differing < options.stop_after; ++i) {
    if (totals.cases % 256 == 0 && Clock::now() >= end) break;
    Case c = generator.make(i, memory);
    auto& [on_host, interpreted] = *outcomes;
    native.run(c, memory, on_host);
    soft.run(c, memory, interpreted);
    ++totals.cases;
    ++totals.mnemonics[c.mnemonic];
    totals.faults += on_host.vector != kNoFault;
    std::vector<std::string> lines = differences(c, on_host, interpreted);
    if (lines.empty()) continue;
    ++totals.differing;
    report(i, options, c, lines);
  }
  return totals;
}

bool run_programs(const Options& options, NativeRunner& native) {
  SequenceOptions programs{.sequences = options.sequences ? options.sequences : ~u64{0}, .seconds = options.seconds, .first = options.first,
                           .stop_after = options.stop_after, .seed = options.seed, .interrupt = !options.quiet};
  return run_sequences(programs, native);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    fmt::print(stderr, "usage: atoll-differential [--cases N] [--sequences N] [--quiet] [--seconds N] [--seed S] [--first N] [--only NAME]\n"
                       "                          [--stop-after N] [--exclusions]\n");
    return 2;
  }
  if (options.list_exclusions) return list_exclusions(), 0;
  auto native = NativeRunner::create();
  if (!native) {
    fmt::print(stderr, "atoll-differential: {}\n", native.error().text());
    return 2;
  }
  fmt::print("seed {}, {} exclusions (--exclusions lists them)\n", options.seed, exclusions().size());
  std::fflush(stdout);
  if (options.run_programs) return run_programs(options, **native) ? 0 : 1;
  auto start = Clock::now();
  Totals totals = run_cases(options, **native);
  double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  fmt::print("{} cases of {} mnemonics, {} faults, {} differing; {:.0f} cases a second\n", totals.cases, totals.mnemonics.size(),
             totals.faults, totals.differing, static_cast<double>(totals.cases) / seconds);
  return totals.differing ? 1 : 0;
}
