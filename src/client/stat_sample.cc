#include "client/stat_sample.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#include "base/fd.h"
#include "base/statistics.h"
#include "base/strings.h"

namespace atl::client {

namespace {

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

std::vector<Source> find_sources(std::optional<u64> only) {
  std::vector<Source> sources;
  for (u64 pid : numbers_in("/proc")) {
    if (only && *only != pid) continue;
    std::string dir = fmt::format("/proc/{}/fd", pid);
    for (u64 number : numbers_in(dir)) {
      std::string target = link_of(fmt::format("{}/{}", dir, number));
      if (!target.contains("kvm") || !target.contains("stats")) continue;
      if (Fd fd = borrow(pid, number)) sources.push_back({pid, target.substr(target.find(':') + 1), std::move(fd)});
    }
  }
  return sources;
}

/// Histograms and peaks do not add up.
Counters sums_of(const std::vector<Statistic>& list) {
  Counters counters;
  for (const Statistic& statistic : list) {
    if (statistic.kind != Statistic::Kind::Cumulative && statistic.kind != Statistic::Kind::Instant) continue;
    for (u64 value : statistic.values) counters[statistic.name] += value;
  }
  return counters;
}

Counters read_source(const Source& source) { return sums_of(read_kvm_statistics(source.fd)); }

}  // namespace

Sample take_sample(std::optional<u64> pid, const Filter& filter) {
  Sample sample;
  for (const Source& source : find_sources(pid))
    for (const auto& [name, value] : read_source(source)) {
      if (!filter.takes(name)) continue;
      sample.total[name] += value;
      sample.by_vm[source.pid][name] += value;
      sample.by_part[{source.pid, source.name}][name] += value;
    }
  return sample;
}

}  // namespace atl::client
