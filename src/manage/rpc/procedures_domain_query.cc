// What a domain is and how it is doing, one question at a time.
#include <sched.h>

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "manage/domain/agent.h"
#include "manage/domain/backup.h"
#include "manage/domain/vm_stats.h"
#include "manage/network/networks.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

Status get_info(Call& call) {
  auto domain = TRY(read_domain(call));
  const Element tree = TRY(domain->current());
  const DomainFacts facts = domain->facts();
  call.write(static_cast<u32>(facts.state.state), kib_at(tree, "memory"), kib_at(tree, "currentMemory"),
             static_cast<u32>(vcpu_count(tree, true)), cpu_time_ns(*domain));
  return {};
}

Status get_state(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, 0, "virDomainGetState"));
  const DomainState state = domain->facts().state;
  call.write(static_cast<i32>(state.state), state.reason);
  return {};
}

Status get_control_info(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  if (!domain->active()) return operation_invalid("domain is not running");
  call.write(u32{0}, u32{0}, u64{0});
  return {};
}

Status get_os_type(Call& call) {
  auto domain = TRY(read_domain(call));
  const Element tree = TRY(domain->current());
  call.write(text_at(tree, "os/type"));
  return {};
}

Status get_max_memory(Call& call) {
  auto domain = TRY(read_domain(call));
  const Element tree = TRY(domain->current());
  call.write(kib_at(tree, "memory"));
  return {};
}

Status get_max_vcpus(Call& call) {
  auto domain = TRY(read_domain(call));
  const Element tree = TRY(domain->current());
  call.write(static_cast<i32>(vcpu_count(tree, false)));
  return {};
}

Status get_vcpus_flags(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  constexpr u32 kMaximum = 4, kGuest = 8;
  TRY(check_flags(flags, kAffect | kMaximum | kGuest, "virDomainGetVcpusFlags"));
  if (flags & kGuest) {
    if (!domain->active()) return invalid_arg("vCPU count provided by the guest agent can only be requested for live domains");
    const nlohmann::json vcpus = TRY(ask_agent(*domain, "guest-get-vcpus", nlohmann::json::object()));
    const auto online = std::ranges::count_if(vcpus, [](const nlohmann::json& vcpu) { return vcpu.value("online", false); });
    call.write(static_cast<i32>(flags & kMaximum ? static_cast<i64>(vcpus.size()) : online));
    return {};
  }
  const Element tree = TRY(tree_for(*domain, flags));
  call.write(static_cast<i32>(vcpu_count(tree, !(flags & kMaximum))));
  return {};
}

Status is_active(Call& call) {
  auto domain = TRY(read_domain(call));
  call.write(static_cast<i32>(domain->active()));
  return {};
}

Status is_persistent(Call& call) {
  auto domain = TRY(read_domain(call));
  call.write(static_cast<i32>(domain->facts().persistent));
  return {};
}

Status is_updated(Call& call) {
  TRY(read_domain(call));
  call.write(i32{0});
  return {};
}

struct VcpuInfo {
  u32 number = 0;
  i32 state = 0;
  u64 cpu_time_ns = 0;
  i32 cpu = -1;
  static constexpr auto kFields = std::tuple{&VcpuInfo::number, &VcpuInfo::state, &VcpuInfo::cpu_time_ns, &VcpuInfo::cpu};
};

/// A bitmap of `bytes` bytes: the processors that a thread may run on.
std::vector<u8> affinity_of(int thread, size_t bytes) {
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(thread, sizeof set, &set);
  std::vector<u8> map(bytes);
  for (size_t cpu = 0; cpu < bytes * 8 && cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) map[cpu / 8] = static_cast<u8>(map[cpu / 8] | 1u << cpu % 8);
  return map;
}

constexpr i32 kMaxCpumapBytes = 2048, kMaxVcpuInfos = 16384;

Status get_vcpus(Call& call) {
  i32 most = 0, map_bytes = 0;
  auto domain = TRY(read_domain(call, most, map_bytes));
  if (most < 0 || most > kMaxVcpuInfos || map_bytes < 0 || map_bytes > kMaxCpumapBytes) return rpc_error("maxinfo > REMOTE_VCPUINFO_MAX");
  const Element tree = TRY(domain->current());
  if (!domain->active()) return operation_invalid("cannot retrieve vcpu information for inactive domain");
  std::vector<VcpuInfo> list;
  Opaque maps;
  const auto threads = domain->vcpu_threads();
  for (u32 i = 0; i < threads.size() && static_cast<i32>(i) < most; ++i) {
    const ThreadTime time = thread_time(threads[i]);
    list.push_back({.number = i, .state = 1, .cpu_time_ns = time.cpu_ns, .cpu = time.processor});
    auto map = affinity_of(threads[i], static_cast<size_t>(map_bytes));
    maps.bytes.insert(maps.bytes.end(), map.begin(), map.end());
  }
  call.write(list, maps);
  return {};
}

Status get_security_label(Call& call) {
  TRY(read_domain(call));
  call.write(CharArray{}, i32{0});
  return {};
}

Status get_messages(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  std::vector<std::string> messages;
  constexpr u32 kTainting = 2;
  if ((flags == 0 || (flags & kTainting)) && domain->facts().tainted) messages.emplace_back("tainted: custom monitor control commands issued");
  call.write(messages);
  return {};
}

constexpr i32 kNoJob = 0, kUnbounded = 2, kCompleted = 3, kFailed = 4, kCancelled = 5;  // virDomainJobType

u64 elapsed_ms(const LongJob& job) { return ((job.end_ns ? job.end_ns : monotonic_ns()) - job.begin_ns) / 1'000'000; }

/// A backup that goes on tells how far it is.
std::optional<LongJob> job_now(const Domain& domain) {
  auto job = domain.long_job();
  if (!job || job->end_ns || job->operation != kOperationBackup) return job;
  const auto progress = backup_progress(domain);
  if (!progress) return job;
  job->temporary = progress->pull;
  job->disk_done = progress->done;
  job->disk_total = progress->total;
  return job;
}

Status get_job_info(Call& call) {
  auto domain = TRY(read_domain(call));
  if (!domain->active()) return operation_invalid("domain is not running");
  const auto job = job_now(*domain);
  const bool going_on = job && !job->end_ns;
  constexpr size_t kOtherNumbers = 7;  // what is left of the time; of all and of memory, each with its part and its rest
  call.write(going_on ? kUnbounded : kNoJob, going_on ? elapsed_ms(*job) : u64{0});
  for (size_t i = 0; i < kOtherNumbers; ++i) call.write(u64{0});
  const bool files = going_on && !job->temporary;
  call.write(files ? job->disk_total : 0, files ? job->disk_done : 0, files ? job->disk_total - job->disk_done : 0);
  return {};
}

void add_disk_numbers(const LongJob& job, TypedParams& params) {
  if (job.temporary) {
    params.emplace_back("disk_temp_used", job.disk_done);
    params.emplace_back("disk_temp_total", job.disk_total);
    return;
  }
  params.emplace_back("disk_total", job.disk_total);
  params.emplace_back("disk_processed", job.disk_done);
  params.emplace_back("disk_remaining", job.disk_total - job.disk_done);
}

Status get_job_stats(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  constexpr u32 kOfCompleted = 1, kKeepCompleted = 2;
  TRY(check_flags(flags, kOfCompleted | kKeepCompleted, "virDomainGetJobStats"));
  if (!domain->active() && !(flags & kOfCompleted)) return operation_invalid("domain is not running");
  const auto job = job_now(*domain);
  if (!job || (job->end_ns != 0) != ((flags & kOfCompleted) != 0)) {
    call.write(kNoJob, TypedParams{});
    return {};
  }
  TypedParams params;
  params.emplace_back("operation", job->operation);
  params.emplace_back("time_elapsed", elapsed_ms(*job));
  if (job->operation == kOperationBackup) add_disk_numbers(*job, params);
  call.write(!job->end_ns ? kUnbounded : job->cancelled ? kCancelled : job->failed ? kFailed : kCompleted, params);
  return {};
}

Status abort_job(Call& call) {
  auto domain = TRY(read_domain(call));
  if (!domain->active()) return operation_invalid("domain is not running");
  if (!domain->backup()) return operation_invalid("no job is active on the domain");
  return cancel_backup(call.daemon().domains(), *domain);
}

Status abort_job_flags(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  constexpr u32 kPostcopy = 1;
  TRY(check_flags(flags, kPostcopy, "virDomainAbortJobFlags"));
  if (!domain->active()) return operation_invalid("domain is not running");
  if (flags & kPostcopy) return operation_invalid("current job is not outgoing migration in post-copy mode");
  if (!domain->backup()) return operation_invalid("no job is active on the domain");
  return cancel_backup(call.daemon().domains(), *domain);
}

// --- addresses of guests

struct GuestAddress {
  i32 type = 0;
  std::string address;
  u32 prefix = 0;
  static constexpr auto kFields = std::tuple{&GuestAddress::type, &GuestAddress::address, &GuestAddress::prefix};
};
struct GuestInterface {
  std::string name;
  std::optional<std::string> mac;
  std::vector<GuestAddress> addresses;
  static constexpr auto kFields = std::tuple{&GuestInterface::name, &GuestInterface::mac, &GuestInterface::addresses};
};

/// The host's ARP table (proc(5), net/arp): address, type, flags, MAC, mask, device.
std::vector<GuestAddress> arp_addresses(const std::string& mac) {
  std::vector<GuestAddress> found;
  auto text = read_file("/proc/net/arp", kMiB);
  if (!text) return found;
  for (std::string_view line : split(*text, '\n')) {
    std::vector<std::string_view> words;
    for (std::string_view word : split(line, ' '))
      if (!word.empty()) words.push_back(word);
    if (words.size() >= 6 && iequals(words[3], mac)) found.push_back({.type = 0, .address = std::string(words[0]), .prefix = 0});
  }
  return found;
}

/// What the network of a card has leased to it.
std::vector<GuestAddress> leased_addresses(const Networks& networks, const Element& card) {
  std::vector<GuestAddress> found;
  auto network = networks.find(at(card, "source", "network"));
  if (!network) return found;
  auto xml = networks.xml(network->uuid, false);
  auto definition = xml ? parse_network(*xml) : Result<NetworkDefinition>(std::move(xml).error());
  auto leases = networks.leases(network->uuid, at(card, "mac", "address"));
  if (!definition || !leases) return found;
  for (const Lease& lease : *leases) {
    GuestAddress address{.type = lease.v6 ? 1 : 0, .address = lease.ip, .prefix = 0};
    auto parsed = parse_ip(lease.ip);
    for (const IpSubnet& subnet : definition->subnets)
      if (parsed && contains(subnet.address, subnet.prefix, *parsed)) address.prefix = subnet.prefix;
    found.push_back(std::move(address));
  }
  return found;
}

/// What the guest says of itself.
Result<std::vector<GuestInterface>> agent_addresses(Domain& domain) {
  using Json = nlohmann::json;
  auto text = [](const Json& object, const char* key) {
    auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const Json answer = TRY(ask_agent(domain, "guest-network-get-interfaces", Json::object()));
  std::vector<GuestInterface> list;
  for (const Json& entry : answer) {
    if (!entry.is_object()) return internal_error("malformed return value");
    GuestInterface card{.name = text(entry, "name"), .mac = text(entry, "hardware-address"), .addresses = {}};
    for (const Json& address : entry.value("ip-addresses", Json::array()))
      card.addresses.push_back({.type = text(address, "ip-address-type") == "ipv6" ? 1 : 0, .address = text(address, "ip-address"),
                                .prefix = address.value("prefix", u32{0})});
    list.push_back(std::move(card));
  }
  return list;
}

Status interface_addresses(Call& call) {
  u32 source = 0, flags = 0;
  auto domain = TRY(read_domain(call, source, flags));
  TRY(check_flags(flags, 0, "virDomainInterfaceAddresses"));
  constexpr u32 kLease = 0, kAgent = 1, kArp = 2;
  auto tree = domain->live();
  if (!tree) return operation_invalid("domain is not running");
  if (source == kAgent) {
    call.write(TRY(agent_addresses(*domain)));
    return {};
  }
  if (source != kLease && source != kArp) return Error(Code::ArgumentUnsupported, fmt::format("Unknown IP address data source {}", source));
  std::vector<GuestInterface> list;
  for (const Element* card : devices_of(*tree).children("interface")) {
    const std::string mac = at(*card, "mac", "address"), name = at(*card, "target", "dev");
    if (name.empty()) continue;
    auto addresses = source == kArp ? arp_addresses(mac) : leased_addresses(call.daemon().networks(), *card);
    if (!addresses.empty()) list.push_back({name, mac, std::move(addresses)});
  }
  call.write(list);
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_GET_INFO, Access::Read, get_info, Where::Quick},
    {Proc::DOMAIN_GET_STATE, Access::Read, get_state, Where::Loop},
    {Proc::DOMAIN_GET_CONTROL_INFO, Access::Read, get_control_info, Where::Quick},
    {Proc::DOMAIN_GET_OS_TYPE, Access::Read, get_os_type, Where::Quick},
    {Proc::DOMAIN_GET_MAX_MEMORY, Access::Read, get_max_memory, Where::Quick},
    {Proc::DOMAIN_GET_MAX_VCPUS, Access::Read, get_max_vcpus, Where::Quick},
    {Proc::DOMAIN_GET_VCPUS_FLAGS, Access::Read, get_vcpus_flags},
    {Proc::DOMAIN_GET_VCPUS, Access::Read, get_vcpus, Where::Quick},
    {Proc::DOMAIN_IS_ACTIVE, Access::Read, is_active, Where::Loop},
    {Proc::DOMAIN_IS_PERSISTENT, Access::Read, is_persistent, Where::Loop},
    {Proc::DOMAIN_IS_UPDATED, Access::Read, is_updated, Where::Loop},
    {Proc::DOMAIN_GET_SECURITY_LABEL, Access::Read, get_security_label, Where::Quick},
    {Proc::DOMAIN_GET_MESSAGES, Access::Read, get_messages, Where::Quick},
    {Proc::DOMAIN_GET_JOB_INFO, Access::Read, get_job_info},
    {Proc::DOMAIN_GET_JOB_STATS, Access::Read, get_job_stats},
    {Proc::DOMAIN_ABORT_JOB, Access::Write, abort_job},
    {Proc::DOMAIN_ABORT_JOB_FLAGS, Access::Write, abort_job_flags},
    {Proc::DOMAIN_INTERFACE_ADDRESSES, Access::Read, interface_addresses},
};

}  // namespace

std::span<const Procedure> domain_query_rows() { return kRows; }

}  // namespace atl::manage
