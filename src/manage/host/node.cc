#include "manage/host/node.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/fd.h"
#include "base/strings.h"

namespace atl::manage::host {

namespace {

constexpr u64 kProcLimit = 4 * kMiB;

std::string text_of(const std::string& path) {
  auto text = read_file(path, kProcLimit);
  return text ? std::string(trim(*text)) : std::string();
}

u32 number_of(const std::string& path, u32 otherwise) {
  auto value = parse_u64(text_of(path));
  return value ? static_cast<u32>(*value) : otherwise;
}

/// The value of "name: 123 kB" lines.
std::optional<u64> field_of(std::string_view text, std::string_view name) {
  for (std::string_view line : split(text, '\n')) {
    size_t at = line.find(name);
    if (at == line.npos || line.substr(at + name.size(), 1) != ":") continue;
    std::string_view rest = trim(line.substr(at + name.size() + 1));
    return parse_u64(rest.substr(0, rest.find(' ')));
  }
  return {};
}

u32 read_mhz(const std::string& root) {
  std::string text = text_of(root + "/proc/cpuinfo");
  size_t at = text.find("cpu MHz");
  if (at == text.npos) return 0;
  at = text.find(':', at);
  std::string_view rest = trim(std::string_view(text).substr(at + 1, 20));
  return static_cast<u32>(parse_u64(rest.substr(0, rest.find('.'))).value_or(0));
}

NodeCpu read_cpu(const std::string& root, u32 id) {
  std::string dir = fmt::format("{}/sys/devices/system/cpu/cpu{}/topology/", root, id);
  NodeCpu cpu;
  cpu.id = id;
  cpu.socket = number_of(dir + "physical_package_id", 0);
  cpu.die = number_of(dir + "die_id", 0);
  cpu.core = number_of(dir + "core_id", id);
  cpu.siblings = parse_cpu_list(text_of(dir + "thread_siblings_list"));
  if (cpu.siblings.empty()) cpu.siblings = {id};
  return cpu;
}

std::vector<u32> numbers_in(std::string_view text) {
  std::vector<u32> numbers;
  for (std::string_view part : split(text, ' '))
    if (auto value = parse_u64(part)) numbers.push_back(static_cast<u32>(*value));
  return numbers;
}

NodeCell read_cell(const std::string& root, u32 id, const std::vector<u32>& online) {
  std::string dir = fmt::format("{}/sys/devices/system/node/node{}/", root, id);
  NodeCell cell;
  cell.id = id;
  cell.memory_kib = field_of(text_of(dir + "meminfo"), "MemTotal").value_or(0);
  cell.distances = numbers_in(text_of(dir + "distance"));
  for (u32 cpu : parse_cpu_list(text_of(dir + "cpulist")))
    if (std::ranges::find(online, cpu) != online.end()) cell.cpus.push_back(read_cpu(root, cpu));
  return cell;
}

/// One cell with everything, for kernels without NUMA.
NodeCell whole_cell(const std::string& root, const Node& node) {
  NodeCell cell;
  cell.memory_kib = node.memory_kib;
  cell.distances = {10};
  for (u32 cpu : node.online) cell.cpus.push_back(read_cpu(root, cpu));
  return cell;
}

/// Sockets, cores and threads of the first cell, as libvirt counts them: their product with the cells is the processors
/// if the host is regular; if not, everything is cores of one socket.
void count_topology(Node& node) {
  std::set<u32> sockets;
  std::set<std::pair<u32, u32>> cores;
  size_t threads = 1;
  for (const NodeCpu& cpu : node.cells.front().cpus) {
    sockets.insert(cpu.socket);
    cores.insert({cpu.socket, cpu.die << 16 | cpu.core});
    threads = std::max(threads, cpu.siblings.size());
  }
  node.sockets = std::max<u32>(1, static_cast<u32>(sockets.size()));
  node.cores = std::max<u32>(1, static_cast<u32>(cores.size()) / node.sockets);
  node.threads = static_cast<u32>(threads);
  if (node.cells.size() * node.sockets * node.cores * node.threads == node.present_cpus) return;
  node.sockets = node.threads = 1;
  node.cores = node.present_cpus;
}

std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  DIR* dir = ::opendir(path.c_str());
  if (!dir) return names;
  while (dirent* entry = ::readdir(dir))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  ::closedir(dir);
  std::ranges::sort(names);
  return names;
}

std::vector<u64> page_sizes(const std::string& root) {
  std::vector<u64> sizes = {static_cast<u64>(::sysconf(_SC_PAGESIZE)) / kKiB};
  for (std::string_view name : names_in(root + "/sys/kernel/mm/hugepages")) {
    // hugepages-2048kB
    std::string_view digits = name.substr(std::min(name.size(), size_t{10}));
    if (auto kib = parse_u64(digits.substr(0, digits.find('k')))) sizes.push_back(*kib);
  }
  std::ranges::sort(sizes);
  return sizes;
}

std::string node_meminfo(i32 cell) {
  return cell < 0 ? "/proc/meminfo" : fmt::format("/sys/devices/system/node/node{}/meminfo", cell);
}

}  // namespace

std::vector<u32> parse_cpu_list(std::string_view text, u32 limit) {
  std::vector<u32> list;
  for (std::string_view part : split(trim(text), ',')) {
    size_t dash = part.find('-');
    auto first = parse_u64(part.substr(0, dash));
    auto last = dash == part.npos ? first : parse_u64(part.substr(dash + 1));
    if (!first || !last) continue;
    for (u64 i = *first; i <= *last && i < limit; ++i) list.push_back(static_cast<u32>(i));
  }
  return list;
}

Result<Node> read_node(const std::string& root) {
  Node node;
  node.mhz = read_mhz(root);
  node.memory_kib = field_of(text_of(root + "/proc/meminfo"), "MemTotal").value_or(0);
  node.online = parse_cpu_list(text_of(root + "/sys/devices/system/cpu/online"));
  node.present_cpus = static_cast<u32>(parse_cpu_list(text_of(root + "/sys/devices/system/cpu/present")).size());
  if (node.online.empty() || node.memory_kib == 0)
    return internal_error("cannot read the host's processors and memory");
  for (u32 id : parse_cpu_list(text_of(root + "/sys/devices/system/node/online"), 1024))
    node.cells.push_back(read_cell(root, id, node.online));
  if (node.cells.empty()) node.cells.push_back(whole_cell(root, node));
  count_topology(node);
  node.has_iommu = !names_in(root + "/sys/kernel/iommu_groups").empty();
  node.page_kib = page_sizes(root);
  return node;
}

Result<std::vector<Stat>> cpu_stats(i32 cpu) {
  std::string text = TRY(read_file("/proc/stat", kProcLimit));
  std::string name = cpu < 0 ? "cpu" : fmt::format("cpu{}", cpu);
  for (std::string_view line : split(text, '\n')) {
    if (!line.starts_with(name + " ")) continue;
    // user nice system idle iowait irq softirq, in ticks
    std::vector<std::string_view> words = split(line, ' ');
    std::erase(words, "");
    if (words.size() < 8) break;
    u64 tick_ns = 1'000'000'000 / static_cast<u64>(::sysconf(_SC_CLK_TCK));
    auto ticks = [&](size_t i) { return parse_u64(words[i]).value_or(0) * tick_ns; };
    return std::vector<Stat>{{"kernel", ticks(3) + ticks(6) + ticks(7)},
                             {"user", ticks(1) + ticks(2)},
                             {"idle", ticks(4)},
                             {"iowait", ticks(5)}};
  }
  return invalid_arg(fmt::format("Invalid cpuNum in function {}", "virHostCPUGetStatsLinux"));
}

Result<std::vector<Stat>> memory_stats(i32 cell) {
  std::string text = text_of(node_meminfo(cell));
  auto total = field_of(text, "MemTotal"), free = field_of(text, "MemFree");
  if (!total || !free)
    return invalid_arg(fmt::format("cellNum in virHostMemGetStats must be a node of this host: {}", cell));
  std::vector<Stat> stats = {{"total", *total}, {"free", *free}};
  if (cell >= 0) return stats;
  stats.push_back({"buffers", field_of(text, "Buffers").value_or(0)});
  stats.push_back({"cached", field_of(text, "Cached").value_or(0)});
  return stats;
}

Result<u64> free_memory(i32 cell) {
  auto free = field_of(text_of(node_meminfo(cell)), "MemFree");
  if (!free) return invalid_arg(fmt::format("no NUMA cell {} on this host", cell));
  return *free * kKiB;
}

Result<u64> free_pages(u32 page_kib, i32 cell) {
  if (page_kib == static_cast<u64>(::sysconf(_SC_PAGESIZE)) / kKiB) return TRY(free_memory(cell)) / kKiB / page_kib;
  std::string base = cell < 0 ? "/sys/kernel/mm" : fmt::format("/sys/devices/system/node/node{}", cell);
  auto value = parse_u64(text_of(fmt::format("{}/hugepages/hugepages-{}kB/free_hugepages", base, page_kib)));
  if (!value) return operation_failed(fmt::format("page size {} is not available on node {}", page_kib, cell));
  return *value;
}

}  // namespace atl::manage::host
