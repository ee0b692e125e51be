// I/O threads of domains: which there are, where they run, more and fewer of them.
#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/iothreads.h"
#include "manage/domain/tuning.h"
#include "manage/rpc/cpu_maps.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

struct IoThreadInfo {
  u32 id = 0;
  Opaque map;
  static constexpr auto kFields = std::tuple{&IoThreadInfo::id, &IoThreadInfo::map};
};

std::vector<bool> all_cpus() { return std::vector<bool>(static_cast<size_t>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN))), true); }

std::vector<u8> map_of(const std::vector<bool>& cpus) { return map_of_cpus(cpus, (cpus.size() + 7) / 8); }

Status get_info(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, kAffect, "virDomainGetIOThreadInfo"));
  const Impact impact = TRY(impact_of(*domain, flags));
  const Element tree = TRY(tree_for(*domain, flags));
  std::map<u64, int> threads;
  if (impact.live) {
    auto monitor = TRY(domain->monitor());
    threads = TRY(running_iothreads(*monitor));
  }
  std::vector<IoThreadInfo> list;
  for (u64 id : iothread_ids(tree)) {
    std::vector<bool> cpus = all_cpus();
    if (auto thread = threads.find(id); thread != threads.end()) cpus = TRY(thread_cpus(thread->second));
    else if (const std::string pinned = iothread_cpuset(tree, id); !pinned.empty()) cpus = TRY(parse_cpu_list(pinned));
    list.push_back({.id = static_cast<u32>(id), .map = {map_of(cpus)}});
  }
  const auto count = static_cast<u32>(list.size());
  call.write(list, count);
  return {};
}

Status no_such_thread(u32 id) { return invalid_arg(fmt::format("iothreadid {} not found", id)); }

Status pin(Call& call) {
  u32 id = 0, flags = 0;
  Opaque map;
  auto domain = TRY(read_domain(call, id, map, flags));
  TRY(check_flags(flags, kAffect, "virDomainPinIOThread"));
  const auto cpus = cpus_of_map(map);
  if (cpu_list(cpus).empty()) return invalid_arg("Empty iothread cpumap list for pinning");
  auto job = TRY(domain->begin_job());
  const Impact impact = TRY(impact_of(*domain, flags));
  auto edit = [&](Element& tree) -> Status {
    if (!has_iothread(tree, id)) return no_such_thread(id);
    pin_iothread(tree, id, cpu_list(cpus));
    return {};
  };
  if (impact.live) {
    auto monitor = TRY(domain->monitor());
    const auto threads = TRY(running_iothreads(*monitor));
    auto thread = threads.find(id);
    if (thread == threads.end()) return invalid_arg(fmt::format("iothread {} not found", id));
    TRY(pin_thread(thread->second, cpus));
    TRY(edit_live(call.daemon().domains(), *domain, edit));
  }
  if (impact.config) TRY(edit_config(call.daemon().domains(), *domain, edit));
  return {};
}

Status check_new(const Element& tree, u32 id) {
  if (has_iothread(tree, id)) return invalid_arg(fmt::format("an IOThread is already using iothread_id '{}'", id));
  return {};
}

/// A thread that a disk or controller uses stays.
Status check_idle(const Element& tree, u32 id) {
  if (!has_iothread(tree, id)) return invalid_arg(fmt::format("cannot find IOThread '{}' in iothreadids list", id));
  for (const Element* device : devices_of(tree).children())
    if (at(*device, "driver", "iothread") == std::to_string(id))
      return invalid_arg(fmt::format("cannot remove IOThread {} since it is being used by {}", id,
                                     device->name() == "disk" ? fmt::format("disk '{}'", at(*device, "target", "dev")) : "controller"));
  return {};
}

using ThreadEdit = void (*)(Element& tree, u64 id);

struct ThreadChange {
  Status (*check)(const Element&, u32);
  ThreadEdit edit;
  const char* command;  // of QMP
};
constexpr ThreadChange kAddThread = {check_new, add_iothread, "object-add"}, kRemoveThread = {check_idle, remove_iothread, "object-del"};

Status change_live(Call& call, Domain& domain, u32 id, const ThreadChange& change) {
  Json arguments = {{"id", fmt::format("iothread{}", id)}};
  if (change.edit == add_iothread) arguments["qom-type"] = "iothread";
  TRY(ask(domain, change.command, std::move(arguments)));
  auto monitor = TRY(domain.monitor());
  if (auto vm = domain.running()) vm->io_threads = TRY(running_iothreads(*monitor));
  return edit_live(call.daemon().domains(), domain, [&](Element& tree) -> Status {
    change.edit(tree, id);
    return {};
  });
}

Status change(Call& call, Domain& domain, u32 id, u32 flags, const ThreadChange& change) {
  auto job = TRY(domain.begin_job());
  const Impact impact = TRY(impact_of(domain, flags));
  if (impact.live) {
    const Element tree = TRY(domain.current());
    TRY(change.check(tree, id));
  }
  if (impact.config) {
    const Element tree = TRY(domain.config());
    TRY(change.check(tree, id));
  }
  if (impact.live) TRY(change_live(call, domain, id, change));
  if (!impact.config) return {};
  return edit_config(call.daemon().domains(), domain, [&](Element& config) -> Status {
    change.edit(config, id);
    return {};
  });
}

Status add(Call& call) {
  u32 id = 0, flags = 0;
  auto domain = TRY(read_domain(call, id, flags));
  TRY(check_flags(flags, kAffect, "virDomainAddIOThread"));
  if (id == 0) return invalid_arg("invalid value of 0 for iothread_id");
  return change(call, *domain, id, flags, kAddThread);
}

Status remove(Call& call) {
  u32 id = 0, flags = 0;
  auto domain = TRY(read_domain(call, id, flags));
  TRY(check_flags(flags, kAffect, "virDomainDelIOThread"));
  if (id == 0) return invalid_arg("invalid value of 0 for iothread_id");
  return change(call, *domain, id, flags, kRemoveThread);
}

Status set_params(Call& call) {
  u32 id = 0, flags = 0;
  TypedParams params;
  auto domain = TRY(read_domain(call, id, params, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetIOThreadParams"));
  const Impact impact = TRY(impact_of(*domain, flags));
  const Element tree = TRY(tree_for(*domain, flags));
  if (!impact.config && !has_iothread(tree, id))
    return invalid_arg(fmt::format("cannot find IOThread '{}' in iothreadids", id));
  if (impact.config) return operation_unsupported("configuring persistent polling values is not supported");
  return operation_unsupported("polling of I/O threads cannot be changed with atoll-vmm");
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_GET_IOTHREAD_INFO, Access::Read, get_info},
    {Proc::DOMAIN_PIN_IOTHREAD, Access::Write, pin},
    {Proc::DOMAIN_ADD_IOTHREAD, Access::Write, add},
    {Proc::DOMAIN_DEL_IOTHREAD, Access::Write, remove},
    {Proc::DOMAIN_SET_IOTHREAD_PARAMS, Access::Write, set_params},
};

}  // namespace

std::span<const Procedure> domain_iothread_rows() { return kRows; }

}  // namespace atl::manage
