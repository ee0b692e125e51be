#include "client/stat.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/strings.h"
#include "client/stat_sample.h"
#include "client/stat_screen.h"

namespace atl::client {

namespace {

struct Options {
  bool once = false, log = false, help = false;
  std::string fields;  // a regular expression; "": all
  std::optional<u64> pid;
  double interval_s = 1;
  std::string mistake;
};

Options parse(std::span<const std::string> words) {
  Options options;
  for (size_t i = 0; i < words.size(); ++i) {
    std::string_view word = words[i];
    auto value = [&]() -> std::string {
      return i + 1 < words.size() ? words[++i] : (options.mistake = "a value is missing", "");
    };
    if (word == "-1" || word == "--once" || word == "--batch")
      options.once = true;
    else if (word == "-l" || word == "--log")
      options.log = true;
    else if (word == "-f" || word == "--fields")
      options.fields = value();
    else if (word == "-s" || word == "--set-delay") {
      auto tenths = parse_u64(value());
      if (!tenths || *tenths == 0 || *tenths > 255)
        options.mistake = "the delay is 1 to 255 seconds";
      else
        options.interval_s = static_cast<double>(*tenths);
    } else if (word == "-p" || word == "--pid") {
      options.pid = parse_u64(value());
      if (!options.pid) options.mistake = "--pid needs a number";
    } else if (word == "-h" || word == "--help")
      options.help = true;
    else
      options.mistake = fmt::format("unknown option '{}'", word);
  }
  return options;
}

std::string table(const Counters& now, const Counters& before, double seconds) {
  std::vector<std::pair<std::string, u64>> rows(now.begin(), now.end());
  std::ranges::sort(rows, [](const auto& x, const auto& y) {
    return x.second != y.second ? x.second > y.second : x.first < y.first;
  });
  std::string text = fmt::format("{:<41}{:>10} {:>10}\n", "Event", "Total", "CurAvg/s");
  for (const auto& [name, value] : rows) {
    if (value == 0) continue;
    auto old = before.find(name);
    u64 delta = value - (old == before.end() || old->second > value ? 0 : old->second);
    text += fmt::format(" {:<40}{:>10} {:>10.0f}\n", name, value, static_cast<double>(delta) / seconds);
  }
  return text;
}

void wait(double seconds) {
  timespec time{static_cast<time_t>(seconds), 0};
  ::nanosleep(&time, nullptr);
}

constexpr char kHelp[] =
    "Usage: atoll stat [-1] [-l] [-f REGEX] [-p PID] [-s SECONDS]\n\n"
    "  -1, --once            the counters over one second, then end\n"
    "  -l, --log             one line a second\n"
    "  -f, --fields REGEX    only the counters that match\n"
    "  -p, --pid PID         only this virtual machine\n"
    "  -s, --set-delay N     seconds between outputs\n\n"
    "On a terminal, without -1 and -l, the counters stay in place: v steps through the total, the machines and their\n"
    "virtual processors, q ends.\n";

void print_log(const Sample& now, const Sample& before, bool title) {
  std::string names, values;
  for (const auto& [name, value] : now.total) {
    auto old = before.total.find(name);
    names += fmt::format("{:>20} ", name.substr(0, 20));
    values += fmt::format("{:>20} ", value - (old == before.total.end() ? 0 : std::min(value, old->second)));
  }
  if (title) fmt::print("{}\n", names);
  fmt::print("{}\n", values);
}

/// What the tables are about; a key steps through them on a terminal.
enum class View : u8 { Total, Vms, Vcpus };

/// One table of each key's counters, under its title.
template <class Map, class Title>
std::string tables(const Map& now, const Map& before, double seconds, Title title) {
  std::string text;
  for (const auto& [key, counters] : now) {
    auto old = before.find(key);
    text += title(key) + "\n" + table(counters, old == before.end() ? Counters() : old->second, seconds) + "\n";
  }
  return text;
}

std::string text_of(const Sample& now, const Sample& before, double seconds, View view) {
  if (now.total.empty()) return "no virtual machine keeps KVM statistics open\n";
  if (view == View::Vms)
    return tables(now.by_vm, before.by_vm, seconds, [](u64 pid) { return fmt::format("VM of process {}", pid); });
  if (view == View::Vcpus)
    return tables(now.by_part, before.by_part, seconds,
                  [](const auto& part) { return fmt::format("process {}, {}", part.first, part.second); });
  return table(now.total, before.total, seconds);
}

void print_tables(const Sample& now, const Sample& before, double seconds) {
  fmt::print("{}", text_of(now, before, seconds, View::Total));
  if (now.by_vm.size() > 1) fmt::print("\n{}", text_of(now, before, seconds, View::Vms));
}

/// The live picture: q ends it, v steps from the total to the VMs and their vCPUs.
int watch(const Options& options, const Filter& filter) {
  Screen screen;
  View view = View::Total;
  Sample before = take_sample(options.pid, filter);
  for (u64 since = monotonic_ns();;) {
    const char key = screen.wait_key(options.interval_s);
    if (key == 'q' || key == kInterruptKey) return 0;
    if (key == 'v') view = static_cast<View>((static_cast<int>(view) + 1) % 3);
    Sample now = take_sample(options.pid, filter);
    const u64 until = monotonic_ns();
    const double seconds = std::max(static_cast<double>(until - since) / 1e9, 0.001);
    screen.show("atoll stat: v the total, VMs or vCPUs; q ends\n\n" + text_of(now, before, seconds, view));
    before = std::move(now);
    since = until;
  }
}

}  // namespace

int run_stat(std::span<const std::string> words) {
  Options options = parse(words);
  Filter filter(options.fields);
  if (options.help) return fmt::print("{}", kHelp), 0;
  if (!filter.is_valid()) options.mistake = fmt::format("'{}' is not a regular expression", options.fields);
  if (!options.mistake.empty()) return fmt::print(stderr, "error: {}\n", options.mistake), 1;
  if (!options.once && !options.log && ::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO)) return watch(options, filter);
  Sample before = take_sample(options.pid, filter);
  for (bool first = true;; first = false) {
    wait(options.interval_s);
    Sample now = take_sample(options.pid, filter);
    if (options.log && !now.total.empty())
      print_log(now, before, first);
    else
      print_tables(now, before, options.interval_s);
    std::fflush(stdout);
    if (options.once) return 0;
    before = std::move(now);
  }
}

}  // namespace atl::client
