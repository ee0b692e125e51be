#include "manage/domain/tuning.h"

#include <sched.h>

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "manage/domain/aliases.h"
#include "manage/domain/iothreads.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kAnswer_ns = 30'000'000'000;
constexpr size_t kMaxCpu = 4096;

Result<std::optional<u64>> limit_at(const Element& domain, std::string_view path) {
  const Element* element = domain.find(path);
  if (!element) return std::optional<u64>();
  return std::optional(TRY(xml::size_text(*element, "KiB")));
}

Result<std::optional<i64>> integer_at(const Element& domain, std::string_view path) {
  const Element* element = domain.find(path);
  if (!element) return std::optional<i64>();
  auto value = parse_i64(trim(element->text()));
  if (!value) return xml_error(fmt::format("'{}' of <{}> is not a number", element->text(), path));
  return std::optional(*value);
}

}  // namespace

std::string group_name(const std::string& run_folder, i32 id, const std::string& whole_name) {
  const std::string name = whole_name.substr(0, 20);  // as in the name of its folder
  if (run_folder == "/run/atoll") return fmt::format("{}-{}", id, name);
  u32 hash = 2'166'136'261;  // FNV-1a
  for (const char c : run_folder) hash = (hash ^ static_cast<u8>(c)) * 16'777'619;
  return fmt::format("{}-{}-{:08x}", id, name, hash);
}

Status check_numa(const Element& domain) {
  const std::string mode = at(domain, "numatune/memory", "mode");
  if (mode.empty() || mode == "strict" || mode == "restrictive") return {};
  return config_unsupported(fmt::format("<numatune><memory mode='{}'> is not supported by atoll-vmm", mode));
}

namespace {

Status apply_device_limits(const ControlGroup& group, const Element& domain) {
  using Limit = ControlGroup::DeviceLimit;
  constexpr std::pair<std::string_view, Limit> kLimits[] = {{"weight", Limit::Weight}, {"read_iops_sec", Limit::ReadOps},
                                                            {"write_iops_sec", Limit::WriteOps}, {"read_bytes_sec", Limit::ReadBytes},
                                                            {"write_bytes_sec", Limit::WriteBytes}};
  const Element* tune = domain.child("blkiotune");
  for (const Element* device : tune ? tune->children("device") : std::vector<const Element*>())
    for (const auto& [name, limit] : kLimits)
      if (auto value = TRY(integer_at(*device, name))) TRY(group.set_device_limit(text_at(*device, "path"), limit, static_cast<u64>(*value)));
  return {};
}

}  // namespace

// Memory never exceeds memory with swap, so which of the two goes first depends.
Status apply_memory_limits(const ControlGroup& group, const Element& domain) {
  const auto hard = TRY(limit_at(domain, "memtune/hard_limit")), soft = TRY(limit_at(domain, "memtune/soft_limit"));
  const auto swap = TRY(limit_at(domain, "memtune/swap_hard_limit"));
  if (swap && (!hard || *swap < *hard)) return invalid_arg("memory hard_limit tunable value must be lower than or equal to swap_hard_limit");
  if (!hard) (void)group.set_swap_limit(swap);
  if (Status limited = group.set_memory_limit(hard); !limited) {
    TRY(group.set_swap_limit(swap));
    TRY(group.set_memory_limit(hard));
  }
  if (swap) TRY(group.set_swap_limit(swap));
  return group.set_memory_soft_limit(soft);
}

Status apply_group_tuning(const ControlGroup& group, const Element& domain) {
  if (auto shares = TRY(integer_at(domain, "cputune/shares"))) TRY(group.set_cpu_shares(static_cast<u64>(*shares)));
  if (auto quota = TRY(integer_at(domain, "cputune/global_quota"))) {
    auto period = TRY(integer_at(domain, "cputune/global_period"));
    TRY(group.set_cpu_quota(static_cast<u64>(period.value_or(100'000)), *quota));
  }
  if (domain.child("memtune")) TRY(apply_memory_limits(group, domain));
  TRY(check_numa(domain));
  if (const std::string nodes = at(domain, "numatune/memory", "nodeset"); !nodes.empty()) TRY(group.set_memory_nodes(nodes));
  if (auto weight = TRY(integer_at(domain, "blkiotune/weight"))) TRY(group.set_blkio_weight(static_cast<u64>(*weight)));
  return apply_device_limits(group, domain);
}

namespace {

struct ThreadQuota {
  std::string_view period, quota;
};
constexpr ThreadQuota kVcpuQuota = {"cputune/period", "cputune/quota"}, kEmulatorQuota = {"cputune/emulator_period", "cputune/emulator_quota"},
                      kIothreadQuota = {"cputune/iothread_period", "cputune/iothread_quota"};

/// Each of `parts` for itself.
Status apply_quota(const Element& domain, const ControlGroup& group, const ThreadQuota& names,
                   const std::vector<std::pair<std::string, std::vector<int>>>& parts) {
  const auto period = TRY(integer_at(domain, names.period)), quota = TRY(integer_at(domain, names.quota));
  if (!period.value_or(0) && !quota.value_or(0)) return {};
  constexpr i64 kDefaultPeriod_us = 100'000;
  const i64 length = period.value_or(0) > 0 ? *period : kDefaultPeriod_us, share = quota.value_or(0) > 0 ? *quota : -1;
  for (const auto& [part, threads] : parts) TRY(group.set_thread_quota(part, threads, static_cast<u64>(length), share));
  return {};
}

/// All threads but those that run the guest's processors or disks.
std::vector<int> emulator_threads(const RunningVm& vm) {
  std::vector<int> threads;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", vm.process.pid), ignored)) {
    const auto id = static_cast<int>(parse_u64(entry.path().filename().string()).value_or(0));
    const bool io = std::ranges::any_of(vm.io_threads, [&](const auto& thread) { return thread.second == id; });
    if (id && !io && std::ranges::find(vm.vcpu_threads, id) == vm.vcpu_threads.end()) threads.push_back(id);
  }
  return threads;
}

}  // namespace

Status apply_thread_quotas(const Element& domain, const RunningVm& vm) {
  std::vector<std::pair<std::string, std::vector<int>>> vcpus, iothreads;
  for (size_t i = 0; i < vm.vcpu_threads.size(); ++i) vcpus.emplace_back(fmt::format("vcpu{}", i), std::vector{vm.vcpu_threads[i]});
  for (const auto& [id, thread] : vm.io_threads) iothreads.emplace_back(fmt::format("iothread{}", id), std::vector{thread});
  TRY(apply_quota(domain, vm.group, kVcpuQuota, vcpus));
  TRY(apply_quota(domain, vm.group, kIothreadQuota, iothreads));
  return apply_quota(domain, vm.group, kEmulatorQuota, {{"emulator", emulator_threads(vm)}});
}

Result<std::vector<bool>> parse_cpu_list(std::string_view text) {
  std::vector<bool> cpus;
  for (std::string_view part : split(text, ',')) {
    part = trim(part);
    const bool on = !part.starts_with('^');
    if (!on) part.remove_prefix(1);
    const size_t dash = part.find('-');
    auto first = parse_u64(part.substr(0, dash));
    auto last = dash == part.npos ? first : parse_u64(part.substr(dash + 1));
    if (!first || !last || *first > *last || *last >= kMaxCpu) return xml_error(fmt::format("Failed to parse bitmap '{}'", text));
    if (cpus.size() <= *last) cpus.resize(*last + 1);
    for (u64 cpu = *first; cpu <= *last; ++cpu) cpus[cpu] = on;
  }
  return cpus;
}

std::string cpu_list(const std::vector<bool>& cpus) {
  std::string text;
  for (size_t cpu = 0; cpu < cpus.size(); ++cpu) {
    if (!cpus[cpu]) continue;
    size_t last = cpu;
    while (last + 1 < cpus.size() && cpus[last + 1]) ++last;
    text += text.empty() ? "" : ",";
    text += last == cpu ? std::to_string(cpu) : fmt::format("{}-{}", cpu, last);
    cpu = last;
  }
  return text;
}

Status pin_thread(int thread, const std::vector<bool>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (size_t cpu = 0; cpu < cpus.size() && cpu < CPU_SETSIZE; ++cpu)
    if (cpus[cpu]) CPU_SET(cpu, &set);
  if (::sched_setaffinity(thread, sizeof set, &set) < 0) return os_error(fmt::format("cannot set CPU affinity on thread {}", thread));
  return {};
}

Status apply_thread_tuning(const Element& domain, const RunningVm& vm) {
  if (const std::string all = at(domain, "vcpu", "cpuset"); !all.empty()) {
    const auto cpus = TRY(parse_cpu_list(all));
    for (int thread : vm.vcpu_threads) TRY(pin_thread(thread, cpus));
  }
  for (const auto& [id, thread] : vm.io_threads)
    if (const std::string list = iothread_cpuset(domain, id); !list.empty()) {
      const auto cpus = TRY(parse_cpu_list(list));
      TRY(pin_thread(thread, cpus));
    }
  const Element* tune = domain.child("cputune");
  if (!tune) return {};
  if (const Element* emulator = tune->child("emulatorpin")) {
    const auto cpus = TRY(parse_cpu_list(emulator->attribute("cpuset")));
    TRY(pin_thread(vm.process.pid, cpus));
  }
  for (const Element* pin : tune->children("vcpupin")) {
    const u64 vcpu = TRY(xml::number(*pin, "vcpu", 0));
    const auto cpus = TRY(parse_cpu_list(pin->attribute("cpuset")));
    if (vcpu < vm.vcpu_threads.size()) TRY(pin_thread(vm.vcpu_threads[vcpu], cpus));
  }
  return {};
}

namespace {

struct Rate {
  std::string_view element, old_name;
};
// libvirt's <iotune> and QMP's block_set_io_throttle.
constexpr Rate kRates[] = {{"total_bytes_sec", "bps"}, {"read_bytes_sec", "bps_rd"}, {"write_bytes_sec", "bps_wr"},
                           {"total_iops_sec", "iops"}, {"read_iops_sec", "iops_rd"}, {"write_iops_sec", "iops_wr"}};
struct Burst {
  std::string_view element, name;
};
constexpr Burst kBursts[] = {{"total_bytes_sec_max", "bps_max"}, {"read_bytes_sec_max", "bps_rd_max"}, {"write_bytes_sec_max", "bps_wr_max"},
                             {"total_iops_sec_max", "iops_max"}, {"read_iops_sec_max", "iops_rd_max"}, {"write_iops_sec_max", "iops_wr_max"},
                             {"size_iops_sec", "iops_size"},
                             {"total_bytes_sec_max_length", "bps_max_length"}, {"read_bytes_sec_max_length", "bps_rd_max_length"},
                             {"write_bytes_sec_max_length", "bps_wr_max_length"}, {"total_iops_sec_max_length", "iops_max_length"},
                             {"read_iops_sec_max_length", "iops_rd_max_length"}, {"write_iops_sec_max_length", "iops_wr_max_length"}};

}  // namespace

std::optional<std::string> io_throttle_arguments(const Element& disk) {
  const Element* tune = disk.child("iotune");
  if (!tune) return std::nullopt;
  Json arguments = {{"id", alias_of(disk)}};
  for (const auto& rate : kRates) arguments[std::string(rate.old_name)] = parse_u64(text_at(*tune, rate.element)).value_or(0);
  for (const auto& burst : kBursts)
    if (auto value = parse_u64(text_at(*tune, burst.element))) arguments[std::string(burst.name)] = *value;
  if (const std::string group = text_at(*tune, "group_name"); !group.empty()) arguments["group"] = group;
  return arguments.dump();
}

Status apply_monitor_tuning(const Element& domain, QmpClient& monitor) {
  const Element& devices = devices_of(domain);
  for (const Element* disk : devices.children("disk"))
    if (auto arguments = io_throttle_arguments(*disk))
      TRY(monitor.execute("block_set_io_throttle", Json::parse(*arguments, nullptr, false), kAnswer_ns));
  for (const Element* graphics : devices.children("graphics"))
    if (graphics->has_attribute("passwd"))
      TRY(monitor.execute("set_password", {{"protocol", "vnc"}, {"password", graphics->attribute("passwd")}}, kAnswer_ns));
  const u64 most = kib_at(domain, "memory"), now = kib_at(domain, "currentMemory");
  const Element* balloon = devices.child("memballoon");
  if (now < most && balloon && balloon->attribute("model") != "none") TRY(monitor.execute("balloon", {{"value", now * kKiB}}, kAnswer_ns));
  return {};
}

}  // namespace atl::manage
