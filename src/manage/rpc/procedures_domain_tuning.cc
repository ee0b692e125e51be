// Memory, vCPUs, pinning, memory of the host's nodes: live and in the stored definition.
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/agent.h"
#include "manage/domain/aliases.h"
#include "manage/domain/tuning.h"
#include "manage/domain/vm_stats.h"
#include "manage/rpc/cpu_maps.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

/// Out of line: GCC 12 takes a string that moves into a variant for an uninitialised one.
[[gnu::noinline]] void add(TypedParams& params, std::string name, TypedParam::Value value) { params.emplace_back(std::move(name), std::move(value)); }

// --- memory

constexpr u32 kMemoryMaximum = 4;

Status set_memory_with(Call& call, Domain& domain, u64 kib, u32 flags) {
  auto job = TRY(domain.begin_job());
  const Impact impact = TRY(impact_of(domain, flags));
  const bool maximum = flags & kMemoryMaximum;
  if (maximum && impact.live) return operation_invalid("cannot resize the maximum memory on an active domain");
  const Element tree = TRY(tree_for(domain, flags));
  if (!maximum && kib > kib_at(tree, "memory")) return invalid_arg("cannot set memory higher than max memory");
  if (kib == 0) return invalid_arg("memory cannot be 0");
  if (impact.live) TRY(ask(domain, "balloon", {{"value", kib * kKiB}}));
  if (!impact.config) return {};
  return edit_config(call.daemon().domains(), domain, [&](Element& config) -> Status {
    ensure(config, maximum ? "memory" : "currentMemory").set("unit", "KiB").set_text(std::to_string(kib));
    return {};
  });
}

Status set_memory(Call& call) {
  u64 kib = 0;
  auto domain = TRY(read_domain(call, kib));
  return set_memory_with(call, *domain, kib, kAffectLive);
}

Status set_max_memory(Call& call) {
  u64 kib = 0;
  auto domain = TRY(read_domain(call, kib));
  return set_memory_with(call, *domain, kib, kMemoryMaximum);
}

Status set_memory_flags(Call& call) {
  u64 kib = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, kib, flags));
  TRY(check_flags(flags, kAffect | kMemoryMaximum, "virDomainSetMemoryFlags"));
  return set_memory_with(call, *domain, kib, flags);
}

// --- vCPUs

constexpr u32 kVcpuMaximum = 4, kVcpuGuest = 8, kVcpuHotpluggable = 16;

/// How many the guest keeps online, by its agent: the first ones, and never fewer than cannot go.
Status set_guest_count(Domain& domain, u32 count) {
  const Json vcpus = TRY(ask_agent(domain, "guest-get-vcpus", Json::object()));
  if (count > vcpus.size()) return invalid_arg(fmt::format("requested vcpu count is greater than the count of enabled vcpus in the domain: {} > {}", count, vcpus.size()));
  Json wanted = Json::array();
  u32 online = 0;
  for (const Json& vcpu : vcpus) {
    const bool stays = online < count || !vcpu.value("can-offline", false);
    online += stays;
    wanted.push_back({{"logical-id", vcpu.value("logical-id", u64{0})}, {"online", stays}});
  }
  TRY(ask_agent(domain, "guest-set-vcpus", {{"vcpus", wanted}}));
  return {};
}

Status set_vcpus_with(Call& call, Domain& domain, u32 count, u32 flags) {
  auto job = TRY(domain.begin_job());
  if (flags & kVcpuGuest) return set_guest_count(domain, count);
  const Impact impact = TRY(impact_of(domain, flags));
  const Element tree = TRY(tree_for(domain, flags));
  if (impact.live && count > vcpu_count(tree, false))
    return invalid_arg(fmt::format("requested vcpus is greater than max allowable vcpus for the live domain: {} > {}", count, vcpu_count(tree, false)));
  if (impact.live && count == vcpu_count(tree, true)) return {};
  if (impact.live && count < vcpu_count(tree, true))
    return config_unsupported("failed to find appropriate hotpluggable vcpus to reach the desired target vcpu count");
  if (impact.live) return operation_unsupported("CPU hotplug is not supported by atoll-vmm");
  if (count == 0) return invalid_arg("a domain has at least one vCPU");
  return edit_config(call.daemon().domains(), domain, [&](Element& config) -> Status {
    Element& vcpu = ensure(config, "vcpu");
    if (flags & kVcpuMaximum) {
      vcpu.set_text(std::to_string(count));
      if (number_at(config, "vcpu", "current").value_or(0) > count) vcpu.remove_attribute("current");
      return {};
    }
    if (count > vcpu_count(config, false))
      return invalid_arg(fmt::format("requested vcpus is greater than max allowable vcpus for the persistent domain: {} > {}", count,
                                     vcpu_count(config, false)));
    vcpu.set("current", count);
    return {};
  });
}

Status set_vcpus(Call& call) {
  u32 count = 0;
  auto domain = TRY(read_domain(call, count));
  return set_vcpus_with(call, *domain, count, kAffectLive);
}

Status set_vcpus_flags(Call& call) {
  u32 count = 0, flags = 0;
  auto domain = TRY(read_domain(call, count, flags));
  TRY(check_flags(flags, kAffect | kVcpuMaximum | kVcpuGuest | kVcpuHotpluggable, "virDomainSetVcpusFlags"));
  return set_vcpus_with(call, *domain, count, flags);
}

// --- pinning

/// The element of <cputune> that pins `vcpu`, or the emulator.
Element& pin_element(Element& tree, std::optional<u32> vcpu) {
  Element& tune = ensure(tree, "cputune");
  if (!vcpu) return ensure(tune, "emulatorpin");
  for (Element* pin : each(tune, "vcpupin"))
    if (pin->attribute("vcpu") == std::to_string(*vcpu)) return *pin;
  return tune.add("vcpupin").set("vcpu", *vcpu);
}

Status pin_with(Call& call, Domain& domain, std::optional<u32> vcpu, const Opaque& map, u32 flags) {
  const auto cpus = cpus_of_map(map);
  const std::string list = cpu_list(cpus);
  if (list.empty()) return invalid_arg("Empty cpu list for pinning");
  auto job = TRY(domain.begin_job());
  const Impact impact = TRY(impact_of(domain, flags));
  auto edit = [&](Element& tree) -> Status {
    if (vcpu && *vcpu >= vcpu_count(tree, false)) return invalid_arg(fmt::format("vcpu {} is out of range", *vcpu));
    pin_element(tree, vcpu).set("cpuset", list);
    put_in_order(tree);
    return {};
  };
  if (impact.live) {
    const auto threads = domain.vcpu_threads();
    auto process = domain.process();
    if (vcpu && *vcpu >= threads.size()) return invalid_arg(fmt::format("vcpu {} is out of range of live cpu count {}", *vcpu, threads.size()));
    TRY(pin_thread(vcpu ? threads[*vcpu] : process->pid, cpus));
    TRY(edit_live(call.daemon().domains(), domain, edit));
  }
  if (impact.config) TRY(edit_config(call.daemon().domains(), domain, edit));
  return {};
}

Status pin_vcpu(Call& call) {
  u32 vcpu = 0;
  Opaque map;
  auto domain = TRY(read_domain(call, vcpu, map));
  return pin_with(call, *domain, vcpu, map, kAffectLive);
}

Status pin_vcpu_flags(Call& call) {
  u32 vcpu = 0, flags = 0;
  Opaque map;
  auto domain = TRY(read_domain(call, vcpu, map, flags));
  TRY(check_flags(flags, kAffect, "virDomainPinVcpuFlags"));
  return pin_with(call, *domain, vcpu, map, flags);
}

Status pin_emulator(Call& call) {
  Opaque map;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, map, flags));
  TRY(check_flags(flags, kAffect, "virDomainPinEmulator"));
  return pin_with(call, *domain, std::nullopt, map, flags);
}

constexpr i32 kMaxMapBytes = 2048;

/// The bits of a pinning, or all processors of the host.
Result<std::vector<u8>> pinned_map(const Element& tree, std::optional<u32> vcpu, i32 map_bytes) {
  if (map_bytes < 0 || map_bytes > kMaxMapBytes) return rpc_error("maplen > REMOTE_CPUMAP_MAX");
  std::string list;
  if (const Element* tune = tree.child("cputune")) {
    if (!vcpu) list = at(*tune, "emulatorpin", "cpuset");
    for (const Element* pin : tune->children("vcpupin"))
      if (vcpu && pin->attribute("vcpu") == std::to_string(*vcpu)) list = pin->attribute("cpuset");
  }
  if (list.empty()) list = at(tree, "vcpu", "cpuset");
  if (list.empty()) list = fmt::format("0-{}", std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)) - 1);
  const auto cpus = TRY(parse_cpu_list(list));
  return map_of_cpus(cpus, static_cast<size_t>(map_bytes));
}

Status get_vcpu_pins(Call& call) {
  i32 count = 0, map_bytes = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, count, map_bytes, flags));
  TRY(check_flags(flags, kAffect, "virDomainGetVcpuPinInfo"));
  const Element tree = TRY(tree_for(*domain, flags));
  Opaque maps;
  u32 vcpu = 0;
  for (; vcpu < vcpu_count(tree, false) && static_cast<i32>(vcpu) < count; ++vcpu) {
    const auto map = TRY(pinned_map(tree, vcpu, map_bytes));
    maps.bytes.insert(maps.bytes.end(), map.begin(), map.end());
  }
  call.write(maps, static_cast<i32>(vcpu));
  return {};
}

Status get_emulator_pin(Call& call) {
  i32 map_bytes = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, map_bytes, flags));
  TRY(check_flags(flags, kAffect, "virDomainGetEmulatorPinInfo"));
  const Element tree = TRY(tree_for(*domain, flags));
  call.write(Opaque{TRY(pinned_map(tree, std::nullopt, map_bytes))}, i32{1});
  return {};
}

// --- memory of the host's nodes

constexpr std::string_view kNumaModes[] = {"strict", "preferred", "interleave", "restrictive"};

Status get_numa(Call& call) {
  i32 asked = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, asked, flags));
  TRY(check_flags(flags, kAffect | kStringOkay, "virDomainGetNumaParameters"));
  const Element tree = TRY(tree_for(*domain, flags & kAffect));
  const std::string mode = at(tree, "numatune/memory", "mode"), nodes = at(tree, "numatune/memory", "nodeset");
  const auto known = std::ranges::find(kNumaModes, mode);
  const i32 number = known == std::end(kNumaModes) ? 0 : static_cast<i32>(known - std::begin(kNumaModes));
  TypedParams params;
  add(params, "numa_mode", number);
  add(params, "numa_nodeset", nodes);
  call.write_params(params, asked);
  return {};
}

Status set_numa(Call& call) {
  TypedParams params;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, params, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetNumaParameters"));
  auto job = TRY(domain->begin_job());
  const Impact impact = TRY(impact_of(*domain, flags));
  const TypedParam* mode = find_param(params, "numa_mode");
  const TypedParam* nodes = find_param(params, "numa_nodeset");
  const auto number = mode ? integer_of(*mode) : std::optional<i64>(0);
  if (!number || *number < 0 || *number >= static_cast<i64>(std::size(kNumaModes))) return invalid_arg("unsupported numatune mode");
  auto edit = [&](Element& tree) -> Status {
    Element& memory = ensure(ensure(tree, "numatune"), "memory");
    if (mode || !memory.has_attribute("mode")) memory.set("mode", kNumaModes[*number]);
    if (const std::string* text = nodes ? std::get_if<std::string>(&nodes->value) : nullptr) {
      const auto list = parse_cpu_list(*text);
      if (!list) return invalid_arg(fmt::format("Failed to parse bitmap '{}'", *text));
      memory.set("nodeset", cpu_list(*list));
    }
    if (memory.attribute("nodeset").empty())
      return config_unsupported("nodeset for NUMA memory tuning must be set if 'placement' is 'static'");
    put_in_order(tree);
    return {};
  };
  if (impact.live) {
    Element tree = TRY(domain->current());
    if (const std::string now = at(tree, "numatune/memory", "mode"); !now.empty() && now != "restrictive")
      return operation_invalid("change of nodeset for running domain requires restrictive numa mode");
    TRY(edit(tree));
    TRY(check_numa(tree));
    auto group = domain->group();
    if (!group) return operation_invalid("domain is not running");
    TRY(group->set_memory_nodes(at(tree, "numatune/memory", "nodeset")));
    TRY(edit_live(call.daemon().domains(), *domain, edit));
  }
  if (impact.config) TRY(edit_config(call.daemon().domains(), *domain, edit));
  return {};
}

/// How often the guest is asked for its memory's statistics.
Status set_stats_period(Call& call) {
  i32 period = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, period, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetMemoryStatsPeriod"));
  if (period < 0) return invalid_arg("period must be zero or greater");
  auto job = TRY(domain->begin_job());
  const Impact impact = TRY(impact_of(*domain, flags));
  auto edit = [&](Element& tree) -> Status {
    Element* balloon = devices_of(tree).child("memballoon");
    if (!balloon || balloon->attribute("model") != "virtio")
      return operation_invalid("Memory balloon model must be virtio to set the collection period");
    balloon->remove("stats");
    if (period) balloon->add("stats").set("period", static_cast<u64>(period));
    put_in_order(tree);
    return {};
  };
  if (impact.live) {
    Element tree = TRY(domain->current());
    TRY(edit(tree));
    const std::string path = "/machine/peripheral/" + alias_of(*devices_of(tree).child("memballoon"));
    TRY(ask(*domain, "qom-set", {{"path", path}, {"property", "guest-stats-polling-interval"}, {"value", period}}));
    TRY(edit_live(call.daemon().domains(), *domain, edit));
  }
  return impact.config ? edit_config(call.daemon().domains(), *domain, edit) : Status();
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_SET_MEMORY, Access::Write, set_memory},
    {Proc::DOMAIN_SET_MAX_MEMORY, Access::Write, set_max_memory},
    {Proc::DOMAIN_SET_MEMORY_FLAGS, Access::Write, set_memory_flags},
    {Proc::DOMAIN_SET_VCPUS, Access::Write, set_vcpus},
    {Proc::DOMAIN_SET_VCPUS_FLAGS, Access::Write, set_vcpus_flags},
    {Proc::DOMAIN_PIN_VCPU, Access::Write, pin_vcpu},
    {Proc::DOMAIN_PIN_VCPU_FLAGS, Access::Write, pin_vcpu_flags},
    {Proc::DOMAIN_PIN_EMULATOR, Access::Write, pin_emulator},
    {Proc::DOMAIN_GET_VCPU_PIN_INFO, Access::Read, get_vcpu_pins},
    {Proc::DOMAIN_GET_EMULATOR_PIN_INFO, Access::Read, get_emulator_pin},
    {Proc::DOMAIN_GET_NUMA_PARAMETERS, Access::Read, get_numa},
    {Proc::DOMAIN_SET_NUMA_PARAMETERS, Access::Write, set_numa},
    {Proc::DOMAIN_SET_MEMORY_STATS_PERIOD, Access::Write, set_stats_period},
};

}  // namespace

std::span<const Procedure> domain_tuning_rows() { return kRows; }

}  // namespace atl::manage
