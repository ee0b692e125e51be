#include "client/stat_sample.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "base/endian.h"
#include "base/fd.h"
#include "base/strings.h"

namespace atl::client {

namespace {

constexpr size_t kContentMax = 256 * kKiB;

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

Counters read_source(const Source& source) {
  std::vector<u8> content(kContentMax);
  ssize_t n = ::pread(source.fd.get(), content.data(), content.size(), 0);
  if (n <= 0) return {};
  auto counters = decode_stats({content.data(), static_cast<size_t>(n)});
  return counters ? *counters : Counters();
}

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

}  // namespace atl::client
