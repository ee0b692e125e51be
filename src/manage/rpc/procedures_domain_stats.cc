// Statistics: of one device, and of many domains at once.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/aliases.h"
#include "manage/domain/vm_stats.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kAnswer_ns = 30'000'000'000;
constexpr u64 kBulk_ns = 2'000'000'000;  // one VM that hangs must not hold up the statistics of the others for long

Result<BlockStats> stats_of_disk(const Domain& domain, const std::string& path) {
  auto tree = domain.live();
  if (!tree) return operation_invalid("domain is not running");
  const auto all = TRY(block_stats(domain, kAnswer_ns));
  if (path.empty()) {  // the sum
    BlockStats sum;
    for (const auto& s : all) {
      sum.read_requests += s.read_requests, sum.read_bytes += s.read_bytes, sum.read_ns += s.read_ns;
      sum.write_requests += s.write_requests, sum.write_bytes += s.write_bytes, sum.write_ns += s.write_ns;
      sum.flushes += s.flushes, sum.flush_ns += s.flush_ns;
    }
    return sum;
  }
  const Element* disk = TRY(find_disk(*tree, path, "invalid path: {}"));
  for (const auto& stats : all)
    if (stats.alias == alias_of(*disk)) return stats;
  return BlockStats{};
}

Status get_block_stats(Call& call) {
  std::string path;
  auto domain = TRY(read_domain(call, path));
  const BlockStats s = TRY(stats_of_disk(*domain, path));
  call.write(s.read_requests, s.read_bytes, s.write_requests, s.write_bytes, i64{-1});
  return {};
}

Status get_block_stats_flags(Call& call) {
  std::string path;
  i32 asked = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, path, asked, flags));
  TRY(check_flags(flags, kStringOkay, "virDomainBlockStatsFlags"));
  const BlockStats s = TRY(stats_of_disk(*domain, path));
  auto value = [](u64 number) { return TypedParam::Value(static_cast<i64>(number)); };
  call.write_params({{"rd_bytes", value(s.read_bytes)},      {"rd_operations", value(s.read_requests)}, {"rd_total_times", value(s.read_ns)},
                     {"wr_bytes", value(s.write_bytes)},     {"wr_operations", value(s.write_requests)}, {"wr_total_times", value(s.write_ns)},
                     {"flush_operations", value(s.flushes)}, {"flush_total_times", value(s.flush_ns)}},
                    asked);
  return {};
}

Status get_interface_stats(Call& call) {
  std::string device;
  auto domain = TRY(read_domain(call, device));
  auto tree = domain->live();
  if (!tree) return operation_invalid("domain is not running");
  for (const Element* card : devices_of(*tree).children("interface")) {
    const std::string name = at(*card, "target", "dev");
    if (name != device && at(*card, "mac", "address") != device) continue;
    if (name.empty()) return internal_error("Interface name not provided");
    const NetStats s = TRY(net_stats(name));
    for (u64 number : {s.rx_bytes, s.rx_packets, s.rx_errors, s.rx_dropped, s.tx_bytes, s.tx_packets, s.tx_errors, s.tx_dropped}) call.write(number);
    return {};
  }
  return invalid_arg(fmt::format("'{}' is not a known interface", device));
}

struct MemoryStat {
  i32 tag = 0;
  u64 value = 0;
  static constexpr auto kFields = std::tuple{&MemoryStat::tag, &MemoryStat::value};
};

/// What the guest's balloon driver says: libvirt's names and tags (VIR_DOMAIN_MEMORY_STAT_*), QEMU's name, and how many make libvirt's one.
struct GuestMemoryStat {
  i32 tag;
  const char* name;
  const char* key;
  u64 unit;
};
constexpr GuestMemoryStat kGuestMemoryStats[] = {
    {0, "swap_in", "stat-swap-in", kKiB},          {1, "swap_out", "stat-swap-out", kKiB},
    {2, "major_fault", "stat-major-faults", 1},    {3, "minor_fault", "stat-minor-faults", 1},
    {4, "unused", "stat-free-memory", kKiB},       {5, "available", "stat-total-memory", kKiB},
    {8, "usable", "stat-available-memory", kKiB},  {9, "last-update", "last-update", 1},
    {10, "disk_caches", "stat-disk-caches", kKiB}, {11, "hugetlb_pgalloc", "stat-htlb-pgalloc", 1},
    {12, "hugetlb_pgfail", "stat-htlb-pgfail", 1}};

struct GuestMemory {
  const GuestMemoryStat* stat;
  u64 value;
};

/// Nothing where no statistics are asked for, or the guest has said nothing yet.
std::vector<GuestMemory> guest_memory(const Domain& domain, const Element& tree, u64 patience_ns) {
  std::vector<GuestMemory> list;
  const Element* balloon = devices_of(tree).child("memballoon");
  auto monitor = domain.monitor();
  if (!balloon || at(*balloon, "stats", "period").empty() || !monitor) return list;
  auto answer = (*monitor)->execute("qom-get", {{"path", "/machine/peripheral/" + alias_of(*balloon)}, {"property", "guest-stats"}}, patience_ns);
  if (!answer || !answer->is_object() || answer->value("last-update", u64{0}) == 0) return list;
  Json numbers = answer->value("stats", Json::object());
  numbers["last-update"] = (*answer)["last-update"];
  for (const auto& stat : kGuestMemoryStats) {
    auto found = numbers.find(stat.key);
    if (found == numbers.end() || !found->is_number_unsigned() || found->get<u64>() == ~u64{0}) continue;
    list.push_back({&stat, found->get<u64>() / stat.unit});
  }
  return list;
}

Status get_memory_stats(Call& call) {
  u32 most = 0, flags = 0;
  auto domain = TRY(read_domain(call, most, flags));
  TRY(check_flags(flags, 0, "virDomainMemoryStats"));
  auto tree = domain->live();
  if (!tree) return operation_invalid("domain is not running");
  constexpr i32 kActual = 6, kRss = 7;  // VIR_DOMAIN_MEMORY_STAT_*
  std::vector<MemoryStat> list = {{kActual, kib_at(*tree, "currentMemory")}};
  for (const auto& told : guest_memory(*domain, *tree, kAnswer_ns)) list.push_back({told.stat->tag, told.value});
  if (auto rss = resident_kib(*domain)) list.push_back({kRss, *rss});
  if (list.size() > most) list.resize(most);
  call.write(list);
  return {};
}

Status get_cpu_stats(Call& call) {
  u32 asked = 0, count = 0, flags = 0;
  i32 first = 0;
  auto domain = TRY(read_domain(call, asked, first, count, flags));
  TRY(check_flags(flags, kStringOkay, "virDomainGetCPUStats"));
  auto group = domain->group();
  if (!group) return operation_invalid("domain is not running");
  if (first != -1) return operation_unsupported("statistics by host CPU are not kept");
  const auto time = TRY(group->cpu_time());
  constexpr i32 kNumbers = 3;
  if (asked == 0) {
    call.write(TypedParams{}, kNumbers);
    return {};
  }
  call.write(TypedParams{{"cpu_time", u64{time.total_ns}}, {"user_time", u64{time.user_ns}}, {"system_time", u64{time.system_ns}}}, kNumbers);
  return {};
}

Status get_block_info(Call& call) {
  std::string path;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, path, flags));
  TRY(check_flags(flags, 0, "virDomainGetBlockInfo"));
  const Element tree = TRY(domain->current());
  const Element* disk = TRY(find_disk(tree, path));
  const ImageSize size = TRY(image_size(*domain, *disk, kAnswer_ns));
  call.write(size.allocation, size.capacity, size.physical);
  return {};
}

struct DiskError {
  std::string disk;
  i32 error = 0;
  static constexpr auto kFields = std::tuple{&DiskError::disk, &DiskError::error};
};

Status get_disk_errors(Call& call) {
  u32 most = 0, flags = 0;
  auto domain = TRY(read_domain(call, most, flags));
  auto tree = domain->live();
  if (!tree) return operation_invalid("domain is not running");
  const Json reply = TRY(ask(*domain, "query-block", Json::object()));
  std::vector<DiskError> list;
  for (const Element* disk : devices_of(*tree).children("disk"))
    for (const Json& device : reply) {
      const std::string status = device.value("io-status", "ok");
      const std::string holder = device.value("qdev", ""), alias = alias_of(*disk);
      if (status == "ok" || !(holder.ends_with(alias) || holder.ends_with(alias + "/virtio-backend"))) continue;
      list.push_back({at(*disk, "target", "dev"), status == "nospace" ? 2 : 1});
    }
  const auto count = static_cast<i32>(most ? std::min<size_t>(most, list.size()) : devices_of(*tree).children("disk").size());
  if (list.size() > most) list.resize(most);
  call.write(list, count);
  return {};
}

// --- many domains at once

enum StatsGroup : u32 { kState = 1, kCpuTotal = 2, kBalloon = 4, kVcpu = 8, kInterface = 16, kBlock = 32, kPerf = 64, kIothread = 128, kMemory = 256,
                        kDirtyRate = 512, kVmStats = 1024 };
constexpr u32 kAllGroups = 0x7ff;

struct StatsWriter {
  const Domain& domain;
  const Element& tree;
  const DomainFacts& facts;
  TypedParams& params;
  void add(std::string name, TypedParam::Value value) const { params.emplace_back(std::move(name), std::move(value)); }
};

void put_state(const StatsWriter& w) {
  w.add("state.state", static_cast<i32>(w.facts.state.state));
  w.add("state.reason", w.facts.state.reason);
}

void put_cpu(const StatsWriter& w) {
  auto group = w.domain.group();
  auto time = group ? group->cpu_time() : Result<ControlGroup::CpuTime>(operation_invalid("no group"));
  if (!time) return;
  w.add("cpu.time", u64{time->total_ns});
  w.add("cpu.user", u64{time->user_ns});
  w.add("cpu.system", u64{time->system_ns});
}

void put_balloon(const StatsWriter& w) {
  w.add("balloon.current", kib_at(w.tree, "currentMemory"));
  w.add("balloon.maximum", kib_at(w.tree, "memory"));
  for (const auto& told : guest_memory(w.domain, w.tree, kBulk_ns)) w.add(fmt::format("balloon.{}", told.stat->name), u64{told.value});
  if (auto rss = resident_kib(w.domain)) w.add("balloon.rss", *rss);
}

void put_vcpus(const StatsWriter& w) {
  w.add("vcpu.current", static_cast<u32>(vcpu_count(w.tree, true)));
  w.add("vcpu.maximum", static_cast<u32>(vcpu_count(w.tree, false)));
  const auto threads = w.domain.vcpu_threads();
  for (size_t i = 0; i < threads.size(); ++i) {
    const ThreadTime time = thread_time(threads[i]);
    w.add(fmt::format("vcpu.{}.state", i), i32{1});
    w.add(fmt::format("vcpu.{}.time", i), u64{time.cpu_ns});
    w.add(fmt::format("vcpu.{}.wait", i), u64{time.wait_ns});
  }
}

void put_interfaces(const StatsWriter& w) {
  if (!w.facts.active()) return;
  const auto cards = devices_of(w.tree).children("interface");
  w.add("net.count", static_cast<u32>(cards.size()));
  for (size_t i = 0; i < cards.size(); ++i) {
    const std::string name = at(*cards[i], "target", "dev");
    if (!name.empty()) w.add(fmt::format("net.{}.name", i), name);
    auto s = net_stats(name);
    if (!s) continue;
    const std::pair<const char*, u64> kNumbers[] = {{"rx.bytes", s->rx_bytes}, {"rx.pkts", s->rx_packets}, {"rx.errs", s->rx_errors},
                                                    {"rx.drop", s->rx_dropped}, {"tx.bytes", s->tx_bytes}, {"tx.pkts", s->tx_packets},
                                                    {"tx.errs", s->tx_errors}, {"tx.drop", s->tx_dropped}};
    for (const auto& [key, value] : kNumbers) w.add(fmt::format("net.{}.{}", i, key), u64{value});
  }
}

void put_blocks(const StatsWriter& w) {
  const auto disks = devices_of(w.tree).children("disk");
  w.add("block.count", static_cast<u32>(disks.size()));
  auto all = w.facts.active() ? block_stats(w.domain, kBulk_ns) : Result<std::vector<BlockStats>>(std::vector<BlockStats>());
  for (size_t i = 0; i < disks.size(); ++i) {
    const std::string prefix = fmt::format("block.{}.", i), file = at(*disks[i], "source", "file");
    const std::string path = file.empty() ? at(*disks[i], "source", "dev") : file;
    w.add(prefix + "name", at(*disks[i], "target", "dev"));
    if (!path.empty()) w.add(prefix + "path", path);
    if (auto index = number_at(*disks[i], "source", "index")) w.add(prefix + "backingIndex", static_cast<u32>(*index));
    if (!all) continue;
    for (const auto& s : *all) {
      if (s.alias != alias_of(*disks[i])) continue;
      const std::pair<const char*, u64> kNumbers[] = {{"rd.reqs", s.read_requests}, {"rd.bytes", s.read_bytes}, {"rd.times", s.read_ns},
                                                      {"wr.reqs", s.write_requests}, {"wr.bytes", s.write_bytes}, {"wr.times", s.write_ns},
                                                      {"fl.reqs", s.flushes}, {"fl.times", s.flush_ns}};
      for (const auto& [key, value] : kNumbers) w.add(prefix + key, u64{value});
    }
    if (auto size = path.empty() ? Result<ImageSize>(invalid_arg("")) : image_size(w.domain, *disks[i], kBulk_ns)) {
      if (size->allocation || w.facts.active()) w.add(prefix + "allocation", u64{size->allocation});
      w.add(prefix + "capacity", u64{size->capacity});
      w.add(prefix + "physical", u64{size->physical});
    }
  }
}

void put_iothreads(const StatsWriter& w) {
  if (auto vm = w.domain.running()) w.add("iothread.count", static_cast<u32>(vm->io_threads.size()));
}

/// It is never measured: as libvirt tells of a domain whose was not yet.
void put_dirty_rate(const StatsWriter& w) {
  if (!w.facts.active()) return;
  w.add("dirtyrate.calc_status", i32{0});
  w.add("dirtyrate.calc_start_time", i64{0});
  w.add("dirtyrate.calc_period", i32{0});
  w.add("dirtyrate.calc_mode", std::string("page-sampling"));
}

struct Group {
  StatsGroup bit;
  void (*put)(const StatsWriter&);
};
constexpr Group kGroups[] = {{kState, put_state}, {kCpuTotal, put_cpu}, {kBalloon, put_balloon}, {kVcpu, put_vcpus}, {kInterface, put_interfaces},
                             {kBlock, put_blocks}, {kIothread, put_iothreads}, {kDirtyRate, put_dirty_rate}};

struct DomainStats {
  DomainRef domain;
  TypedParams params;
  static constexpr auto kFields = std::tuple{&DomainStats::domain, &DomainStats::params};
};

Result<std::vector<DomainPtr>> chosen_domains(Call& call, const std::vector<DomainRef>& named, u32 filter) {
  std::vector<DomainPtr> list;
  Domains& domains = call.daemon().domains();
  for (const auto& ref : named)
    if (auto found = domains.find(ref.uuid)) list.push_back(*found);
  if (named.empty())
    for (const auto& domain : domains.all())
      if (passes_filter(domain->facts(), filter)) list.push_back(domain);
  std::ranges::sort(list, {}, [](const DomainPtr& d) { return d->name(); });
  return list;
}

Status get_all_stats(Call& call) {
  std::vector<DomainRef> named;
  u32 wanted = 0, flags = 0;
  TRY(call.read(named, wanted, flags));
  constexpr u32 kNoWait = 1u << 29, kBacking = 1u << 30, kEnforce = 1u << 31;
  TRY(check_flags(flags, kNoWait | kBacking | kEnforce | 0xff, "virConnectGetAllDomainStats"));
  if ((flags & kEnforce) && (wanted & ~kAllGroups))
    return Error(Code::ArgumentUnsupported, fmt::format("Stats types bits 0x{:x} are not supported by this daemon", wanted & ~kAllGroups));
  if (wanted == 0) wanted = kAllGroups;
  std::vector<DomainStats> list;
  for (const auto& domain : TRY(chosen_domains(call, named, flags & 0xff))) {
    auto tree = domain->current();
    if (!tree) continue;  // gone meanwhile
    const DomainFacts facts = domain->facts();
    DomainStats stats{.domain = facts.ref(), .params = {}};
    for (const auto& group : kGroups)
      if (wanted & group.bit) group.put({*domain, *tree, facts, stats.params});
    list.push_back(std::move(stats));
  }
  call.write(list);
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_BLOCK_STATS, Access::Read, get_block_stats},
    {Proc::DOMAIN_BLOCK_STATS_FLAGS, Access::Read, get_block_stats_flags},
    {Proc::DOMAIN_INTERFACE_STATS, Access::Read, get_interface_stats},
    {Proc::DOMAIN_MEMORY_STATS, Access::Read, get_memory_stats},
    {Proc::DOMAIN_GET_CPU_STATS, Access::Read, get_cpu_stats},
    {Proc::DOMAIN_GET_BLOCK_INFO, Access::Read, get_block_info},
    {Proc::DOMAIN_GET_DISK_ERRORS, Access::Read, get_disk_errors},
    {Proc::CONNECT_GET_ALL_DOMAIN_STATS, Access::Read, get_all_stats},
};

}  // namespace

std::span<const Procedure> domain_stats_rows() { return kRows; }

}  // namespace atl::manage
