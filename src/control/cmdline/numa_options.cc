// -numa: nodes, which processors belong to them, and how far they are from each other.
#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/strings.h"
#include "control/cmdline/handlers.h"
#include "control/cmdline/json_values.h"

namespace atl::control {

using machine::NumaNode;

namespace {

constexpr u64 kMaxNodes = 128;

/// "0-3" or "2".
Result<std::pair<u32, u32>> cpu_range(const std::string& text, u32 count) {
  const size_t dash = text.find('-');
  const auto first = parse_u64(text.substr(0, dash)), last = dash == text.npos ? first : parse_u64(text.substr(dash + 1));
  if (!first || !last || *first > *last) return invalid_option(fmt::format("'cpus={}' is not a range of CPUs", text));
  if (*last >= count) return invalid_option(fmt::format("CPU index ({}) should be smaller than maxcpus ({})", std::min<u64>(*last, count), count));
  return std::pair(static_cast<u32>(*first), static_cast<u32>(*last));
}

/// What the options say, by the nodes' numbers.
class NumaReader {
 public:
  explicit NumaReader(Builder& b) : b_(b), topology_(b.config().topology) {}

  Status read(const OptionUse& use);
  Status finish();

 private:
  Status read_node(KeyValues values);
  Status read_cpu(KeyValues values);
  Status read_distance(KeyValues values);
  Status claim(u32 node, u32 cpu);
  Status take_memory();
  Status spread_distances();

  Builder& b_;
  const cpu::Topology& topology_;
  std::map<u64, NumaNode> nodes_;
  std::map<u32, u32> owner_;                     // of a CPU
  std::map<std::pair<u64, u64>, u8> distances_;
};

Status NumaReader::read(const OptionUse& use) {
  KeyValues values = TRY(parse_option_value(use.value, "type"));
  const std::string type = TRY(values.take_required("type"));
  if (type == "node") return read_node(std::move(values));
  if (type == "cpu") return read_cpu(std::move(values));
  if (type == "dist") return read_distance(std::move(values));
  if (type == "hmat-lb" || type == "hmat-cache") return invalid_option(fmt::format("'{}' is not supported: there is no heterogeneous memory table", type));
  return invalid_option(fmt::format("Parameter 'type' does not accept value '{}'", type));
}

Status NumaReader::read_node(KeyValues values) {
  const u64 number = TRY(values.take_u64("nodeid", nodes_.size(), kMaxNodes - 1));
  if (values.has("mem")) return invalid_option("Parameter -numa node,mem is not supported by this machine type. Use -numa node,memdev instead");
  if (nodes_.contains(number)) return invalid_option(fmt::format("Duplicate NUMA nodeid: {}", number));
  NumaNode& node = nodes_[number];
  node.memory = values.take("memdev").value_or("");
  for (const std::string& range : values.take_all("cpus")) {
    const auto [first, last] = TRY(cpu_range(range, topology_.cpus));
    for (u32 cpu = first; cpu <= last; ++cpu) TRY(claim(static_cast<u32>(number), cpu));
  }
  return values.expect_empty();
}

Status NumaReader::claim(u32 node, u32 cpu) {
  auto [at, fresh] = owner_.emplace(cpu, node);
  if (fresh || at->second == node) return {};
  return invalid_option(fmt::format("CPU {} is already assigned to node-id: {}", cpu, at->second));
}

/// What is not given of socket, core and thread matches all.
Status NumaReader::read_cpu(KeyValues values) {
  const u64 node = TRY(values.take_u64("node-id", ~u64{0}));
  if (!nodes_.contains(node)) return invalid_option(fmt::format("Invalid node-id={}, NUMA node must be defined with -numa node,nodeid=ID before it's used with -numa cpu,node-id=ID", node));
  const u64 socket = TRY(values.take_u64("socket-id", ~u64{0})), core = TRY(values.take_u64("core-id", ~u64{0})), thread = TRY(values.take_u64("thread-id", ~u64{0}));
  TRY(values.expect_empty());
  const u32 threads = std::max(topology_.threads, 1u), cores = std::max(topology_.cores, 1u);
  bool found = false;
  for (u32 cpu = 0; cpu < topology_.cpus; ++cpu) {
    auto fits = [](u64 wanted, u64 actual) { return wanted == ~u64{0} || wanted == actual; };
    if (!fits(socket, cpu / (threads * cores)) || !fits(core, cpu / threads % cores) || !fits(thread, cpu % threads)) continue;
    TRY(claim(static_cast<u32>(node), cpu));
    found = true;
  }
  if (!found) return invalid_option("no match found");
  return {};
}

Status NumaReader::read_distance(KeyValues values) {
  const u64 from = TRY(values.take_u64("src", ~u64{0})), to = TRY(values.take_u64("dst", ~u64{0})), value = TRY(values.take_u64("val", 0, 255));
  TRY(values.expect_empty());
  if (!nodes_.contains(from) || !nodes_.contains(to))
    return invalid_option("Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first.");
  if (value < 10 || (from != to && value == 10)) return invalid_option(fmt::format("NUMA distance ({}) is invalid, it shouldn't be less than 10", value));
  if (from == to && value != 10) return invalid_option(fmt::format("Local distance of node {} should be 10.", from));
  distances_[{from, to}] = static_cast<u8>(value);
  return {};
}

/// The objects of the nodes become the machine's memory, which is one block: they must be alike.
Status NumaReader::take_memory() {
  u64 total = 0;
  const MemoryBackend* first = nullptr;
  for (auto& [number, node] : nodes_) {
    auto at = b_.memory_backends.find(node.memory);
    if (node.memory.empty()) continue;
    if (at == b_.memory_backends.end()) return invalid_option(fmt::format("memdev={} is not a memory backend", node.memory));
    const memory::RamOptions& ram = at->second.ram;
    if (!first) first = &at->second;
    if (ram.backing != first->ram.backing || ram.shared != first->ram.shared || ram.prealloc != first->ram.prealloc)
      return invalid_option(fmt::format("memdev={}: the memory backends of all nodes must be alike", node.memory));
    if (ram.backing == memory::RamOptions::Backing::File && nodes_.size() > 1)
      return invalid_option(fmt::format("memdev={}: files are not supported for several nodes", node.memory));
    node.bytes = at->second.size_bytes;
    total += node.bytes;
  }
  const u64 wanted = b_.ram_size_given || !first ? b_.config().ram_bytes : total;
  if (total != wanted) return invalid_option(fmt::format("total memory for NUMA nodes (0x{:x}) should equal RAM size (0x{:x})", total, wanted));
  b_.config().ram = first->ram;
  b_.config().ram_bytes = total;
  for (const auto& [number, node] : nodes_) b_.memory_backends.erase(node.memory);
  return {};
}

/// A distance is the same in both directions if one is given; all must be given if any is.
Status NumaReader::spread_distances() {
  if (distances_.empty()) return {};
  for (auto& [from, node] : nodes_) {
    for (const auto& [to, other] : nodes_) {
      auto at = distances_.find({from, to});
      if (at == distances_.end()) at = distances_.find({to, from});
      if (at == distances_.end() && from != to) return invalid_option(fmt::format("The distance between node {} and {} is missing, at least one distance value between each nodes should be provided.", from, to));
      node.distances.push_back(from == to ? u8{10} : at->second);
    }
  }
  return {};
}

Status NumaReader::finish() {
  if (nodes_.rbegin()->first + 1 != nodes_.size()) {
    u64 missing = 0;
    while (nodes_.contains(missing)) ++missing;
    return invalid_option(fmt::format("numa: Node ID missing: {}", missing));
  }
  TRY(take_memory());
  TRY(spread_distances());
  const u32 per_socket = std::max(topology_.cores * topology_.threads, 1u);
  for (u32 cpu = 0; cpu < topology_.cpus; ++cpu) {
    const auto at = owner_.find(cpu);
    const u64 node = at != owner_.end() ? at->second : owner_.empty() ? cpu / per_socket % nodes_.size() : 0;
    nodes_[node].cpus.push_back(cpu);
  }
  for (auto& [number, node] : nodes_) b_.config().numa.push_back(std::move(node));
  return {};
}

}  // namespace

Status option_numa(Builder& b, const OptionUse& use) {
  b.numa_options.push_back(use);
  return {};
}

Status Builder::finish_numa() {
  if (numa_options.empty()) return {};
  NumaReader reader(*this);
  for (const OptionUse& use : numa_options) TRY(reader.read(use).context(use.text()));
  return reader.finish().context("-numa");
}

}  // namespace atl::control
