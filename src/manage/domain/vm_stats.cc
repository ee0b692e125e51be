#include "manage/domain/vm_stats.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/endian.h"
#include "manage/domain/aliases.h"

namespace atl::manage {
namespace {
using Json = nlohmann::json;
constexpr u64 kProcFileBytes = 64 * kKiB;
}  // namespace

u64 vcpu_count(const Element& domain, bool current) {
  const u64 most = parse_u64(text_at(domain, "vcpu")).value_or(1);
  return current ? number_at(domain, "vcpu", "current").value_or(most) : most;
}

u64 cpu_time_ns(const Domain& domain) {
  if (auto group = domain.group())
    if (auto time = group->cpu_time()) return time->total_ns;
  auto process = domain.process();
  if (!process) return 0;
  auto text = read_file(fmt::format("/proc/{}/schedstat", process->pid), kProcFileBytes);
  return text ? parse_u64(split(trim(*text), ' ')[0]).value_or(0) : 0;
}

ThreadTime thread_time(int thread) {
  ThreadTime time;
  if (auto text = read_file(fmt::format("/proc/{}/schedstat", thread), kProcFileBytes)) {
    auto words = split(trim(*text), ' ');
    if (words.size() >= 2) {
      time.cpu_ns = parse_u64(words[0]).value_or(0);
      time.wait_ns = parse_u64(words[1]).value_or(0);
    }
  }
  if (auto text = read_file(fmt::format("/proc/{}/stat", thread), kProcFileBytes)) {
    const size_t end = text->rfind(')');
    auto words = end == std::string::npos ? std::vector<std::string_view>() : split(std::string_view(*text).substr(end + 2), ' ');
    constexpr size_t kProcessor = 39 - 3;  // proc(5): field 39; the first here is field 3
    if (words.size() > kProcessor) time.processor = static_cast<i32>(parse_u64(words[kProcessor]).value_or(0));
  }
  return time;
}

constexpr std::string_view kBackEnd = "/virtio-backend";

Result<std::vector<BlockStats>> block_stats(const Domain& domain, u64 patience_ns) {
  auto monitor = TRY(domain.monitor());
  const Json reply = TRY(monitor->execute("query-blockstats", Json::object(), patience_ns));
  std::vector<BlockStats> list;
  for (const Json& device : reply) {
    const Json stats = device.value("stats", Json::object());
    // "/machine/peripheral/virtio-disk0/virtio-backend", or the alias itself.
    std::string name = device.value("qdev", "");
    if (name.ends_with(kBackEnd)) name.erase(name.size() - kBackEnd.size());
    name.erase(0, name.rfind('/') + 1);
    auto number = [&](const char* key) { return stats.value(key, u64{0}); };
    list.push_back({.alias = name, .read_requests = number("rd_operations"), .read_bytes = number("rd_bytes"),
                    .read_ns = number("rd_total_time_ns"), .write_requests = number("wr_operations"), .write_bytes = number("wr_bytes"),
                    .write_ns = number("wr_total_time_ns"), .flushes = number("flush_operations"), .flush_ns = number("flush_total_time_ns")});
  }
  return list;
}

Result<NetStats> net_stats(const std::string& device) {
  const std::string folder = fmt::format("/sys/class/net/{}/statistics/", device);
  auto number = [&](const char* name) -> u64 {
    auto text = read_file(folder + name, kProcFileBytes);
    return text ? parse_u64(trim(*text)).value_or(0) : 0;
  };
  if (device.empty() || ::access(folder.c_str(), F_OK) != 0) return internal_error(fmt::format("Interface '{}' not found", device));
  return NetStats{.rx_bytes = number("tx_bytes"), .rx_packets = number("tx_packets"), .rx_errors = number("tx_errors"), .rx_dropped = number("tx_dropped"),
                  .tx_bytes = number("rx_bytes"), .tx_packets = number("rx_packets"), .tx_errors = number("rx_errors"), .tx_dropped = number("rx_dropped")};
}

std::optional<u64> resident_kib(const Domain& domain) {
  auto process = domain.process();
  if (!process) return std::nullopt;
  auto text = read_file(fmt::format("/proc/{}/statm", process->pid), kProcFileBytes);
  if (!text) return std::nullopt;
  auto words = split(trim(*text), ' ');
  return words.size() < 2 ? std::nullopt : std::optional(parse_u64(words[1]).value_or(0) * (kPageSize / kKiB));
}

namespace {

/// qcow2's virtual size, from its header ("Header" in its specification); other formats are as long as they are.
u64 capacity_of(const std::string& path, const std::string& format, u64 physical) {
  if (format != "qcow2") return physical;
  auto file = open_file(path, O_RDONLY);
  std::array<u8, 32> head{};
  if (!file || !read_exact_at(*file, head, 0)) return physical;
  return load_be<u64>(head.data() + 24);
}

/// The virtual size as the VM knows it: a medium that grows is up to date there.
std::optional<u64> reported_capacity(const Domain& domain, const Element& disk, u64 patience_ns) {
  auto monitor = domain.monitor();
  const std::string node = disk_node(disk);
  if (!monitor || node.empty()) return std::nullopt;
  auto nodes = (*monitor)->execute("query-named-block-nodes", {{"flat", true}}, patience_ns);
  if (!nodes) return std::nullopt;
  for (const Json& entry : *nodes)
    if (entry.value("node-name", "") == node) return entry.value("image", Json::object()).value("virtual-size", u64{0});
  return std::nullopt;
}

}  // namespace

Result<ImageSize> image_size(const Domain& domain, const Element& disk, u64 patience_ns) {
  const std::string file = at(disk, "source", "file"), path = file.empty() ? at(disk, "source", "dev") : file;
  if (path.empty()) return invalid_arg(fmt::format("disk '{}' does not currently have a source assigned", at(disk, "target", "dev")));
  struct stat now;
  if (::stat(path.c_str(), &now) < 0) return os_error(fmt::format("cannot stat file '{}'", path));
  ImageSize size;
  size.physical = static_cast<u64>(now.st_size);
  if (S_ISBLK(now.st_mode)) {
    auto device = TRY(open_file(path, O_RDONLY));
    size.physical = static_cast<u64>(std::max<off_t>(::lseek(device.get(), 0, SEEK_END), 0));
  }
  size.allocation = S_ISREG(now.st_mode) ? static_cast<u64>(now.st_blocks) * 512 : size.physical;
  size.capacity = capacity_of(path, at(disk, "driver", "type"), size.physical);
  if (auto known = reported_capacity(domain, disk, patience_ns)) size.capacity = *known;
  return size;
}

Result<const Element*> find_disk(const Element& domain, const std::string& path, std::string_view words) {
  for (const Element* disk : devices_of(domain).children("disk"))
    if (at(*disk, "target", "dev") == path || (!path.empty() && (at(*disk, "source", "file") == path || at(*disk, "source", "dev") == path)))
      return disk;
  return invalid_arg(fmt::format(fmt::runtime(words), path));
}

}  // namespace atl::manage
