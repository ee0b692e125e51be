#include "client/stat.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <regex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <ctime>
#include <optional>

#include "base/endian.h"
#include "base/fd.h"
#include "base/strings.h"

namespace atl::client {

namespace {

constexpr size_t kContentMax = 256 * kKiB;

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

/// A compiled -f expression.
class Filter {
 public:
  explicit Filter(const std::string& expression) : all_(expression.empty()) {
    valid_ = all_ || ::regcomp(&regex_, expression.c_str(), REG_EXTENDED | REG_NOSUB) == 0;
  }
  ~Filter() {
    if (valid_ && !all_) ::regfree(&regex_);
  }
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;
  bool is_valid() const { return valid_; }
  bool takes(const std::string& name) const { return all_ || ::regexec(&regex_, name.c_str(), 0, nullptr, 0) == 0; }

 private:
  const bool all_;
  bool valid_ = false;
  regex_t regex_{};
};

std::vector<u64> numbers_in(const std::string& path) {
  std::vector<u64> numbers;
  DIR* dir = ::opendir(path.c_str());
  if (!dir) return numbers;
  while (dirent* entry = ::readdir(dir))
    if (auto number = parse_u64(entry->d_name)) numbers.push_back(*number);
  ::closedir(dir);
  return numbers;
}

std::string link_of(const std::string& path) {
  char text[200];
  ssize_t n = ::readlink(path.c_str(), text, sizeof text);
  return {text, n > 0 ? static_cast<size_t>(n) : 0};
}

/// A copy of another process's descriptor (pidfd_getfd(2)): statistics cannot be opened by their link in /proc.
Fd borrow(u64 pid, u64 fd) {
  Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return {};
  return Fd(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
}

/// A virtual machine or a vCPU.
struct Source {
  u64 pid;
  std::string name;  // "kvm-vcpu-stats:0" and the like
  Fd fd;
};

std::vector<Source> find_sources(const Options& options) {
  std::vector<Source> sources;
  for (u64 pid : numbers_in("/proc")) {
    if (options.pid && *options.pid != pid) continue;
    std::string dir = fmt::format("/proc/{}/fd", pid);
    for (u64 number : numbers_in(dir)) {
      std::string target = link_of(fmt::format("{}/{}", dir, number));
      if (!target.contains("kvm") || !target.contains("stats")) continue;
      if (Fd fd = borrow(pid, number)) sources.push_back({pid, target.substr(target.find(':') + 1), std::move(fd)});
    }
  }
  return sources;
}

Counters read_source(const Source& source) {
  std::vector<u8> content(kContentMax);
  ssize_t n = ::pread(source.fd.get(), content.data(), content.size(), 0);
  if (n <= 0) return {};
  auto counters = decode_stats({content.data(), static_cast<size_t>(n)});
  return counters ? *counters : Counters();
}

struct Sample {
  Counters total;
  std::map<u64, Counters> by_vm;
};

Sample take_sample(const Options& options, const Filter& filter) {
  Sample sample;
  for (const Source& source : find_sources(options))
    for (const auto& [name, value] : read_source(source)) {
      if (!filter.takes(name)) continue;
      sample.total[name] += value;
      sample.by_vm[source.pid][name] += value;
    }
  return sample;
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
    "  -s, --set-delay N     seconds between outputs\n";

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

void print_tables(const Sample& now, const Sample& before, double seconds) {
  fmt::print("{}", table(now.total, before.total, seconds));
  if (now.by_vm.size() < 2) return;
  for (const auto& [pid, counters] : now.by_vm) {
    auto old = before.by_vm.find(pid);
    fmt::print("\nVM of process {}\n{}", pid,
               table(counters, old == before.by_vm.end() ? Counters() : old->second, seconds));
  }
}

}  // namespace

Result<Counters> decode_stats(std::span<const u8> content) {
  auto bad = [](std::string_view what) { return Error(ErrorKind::Invalid, fmt::format("KVM statistics: {}", what)); };
  if (content.size() < sizeof(kvm_stats_header)) return bad("no header");
  kvm_stats_header header;
  std::memcpy(&header, content.data(), sizeof header);
  size_t stride = sizeof(kvm_stats_desc) + header.name_size;
  if (header.name_size == 0 || header.name_size > kKiB || header.num_desc > 4096 ||
      u64{header.desc_offset} + u64{header.num_desc} * stride > content.size())
    return bad("descriptors past the end");
  Counters counters;
  for (u32 i = 0; i < header.num_desc; ++i) {
    const u8* at = content.data() + header.desc_offset + i * stride;
    kvm_stats_desc desc;
    std::memcpy(&desc, at, sizeof desc);
    const char* text = reinterpret_cast<const char*>(at + sizeof desc);
    std::string name(text, ::strnlen(text, header.name_size));
    u64 begin = u64{header.data_offset} + desc.offset;
    if (begin + u64{desc.size} * 8 > content.size()) return bad("data of " + name + " past the end");
    u32 type = desc.flags & KVM_STATS_TYPE_MASK;
    if (type != KVM_STATS_TYPE_CUMULATIVE && type != KVM_STATS_TYPE_INSTANT)
      continue;  // histograms and peaks do not add up
    u64 sum = 0;
    for (u16 n = 0; n < desc.size; ++n) sum += load_le<u64>(content.data() + begin + u64{n} * 8);
    counters[name] += sum;
  }
  return counters;
}

int run_stat(std::span<const std::string> words) {
  Options options = parse(words);
  Filter filter(options.fields);
  if (options.help) return fmt::print("{}", kHelp), 0;
  if (!filter.is_valid()) options.mistake = fmt::format("'{}' is not a regular expression", options.fields);
  if (!options.mistake.empty()) return fmt::print(stderr, "error: {}\n", options.mistake), 1;
  Sample before = take_sample(options, filter);
  for (bool first = true;; first = false) {
    wait(options.interval_s);
    Sample now = take_sample(options, filter);
    if (now.total.empty())
      fmt::print("no virtual machine keeps KVM statistics open\n");
    else if (options.log)
      print_log(now, before, first);
    else
      print_tables(now, before, options.interval_s);
    std::fflush(stdout);
    if (options.once) return 0;
    before = std::move(now);
  }
}

}  // namespace atl::client
