// What atoll-vmm does not have, answered as libvirt answers for a VM that has it not: perf events, single vCPUs, launch security, the
// rate of dirty pages.
#include <fmt/format.h>

#include "manage/domain/tuning.h"
#include "manage/domain/vm_stats.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

constexpr const char* kPerfEvents[] = {
    "cmt", "mbmt", "mbml", "cpu_cycles", "instructions", "cache_references", "cache_misses", "branch_instructions", "branch_misses",
    "bus_cycles", "stalled_cycles_frontend", "stalled_cycles_backend", "ref_cpu_cycles", "cpu_clock", "task_clock", "page_faults",
    "context_switches", "cpu_migrations", "page_faults_min", "page_faults_maj", "alignment_faults", "emulation_faults"};

Status get_perf_events(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, kAffect | kStringOkay, "virDomainGetPerfEvents"));
  TRY(impact_of(*domain, flags & kAffect));
  TypedParams params;
  for (const char* name : kPerfEvents) params.emplace_back(name, false);
  call.write(params);
  return {};
}

Status set_perf_events(Call& call) {
  TypedParams params;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, params, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetPerfEvents"));
  TRY(impact_of(*domain, flags));
  for (const auto& param : params) {
    const bool* on = std::get_if<bool>(&param.value);
    if (!on) return invalid_arg(fmt::format("invalid type for parameter '{}'", param.name));
    if (*on) return Error(Code::ArgumentUnsupported, fmt::format("unable to enable host cpu perf event for {}", param.name));
  }
  return {};
}

Status set_vcpu(Call& call) {
  std::string map;
  i32 on = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, map, on, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetVcpu"));
  const Impact impact = TRY(impact_of(*domain, flags));
  const Element tree = TRY(tree_for(*domain, flags));
  const auto vcpus = TRY(parse_cpu_list(map));
  for (size_t vcpu = 0; vcpu < vcpus.size(); ++vcpu) {
    if (!vcpus[vcpu]) continue;
    if (vcpu >= vcpu_count(tree, false)) return invalid_arg(fmt::format("vCPU '{}' is not present in domain", vcpu));
    if (impact.config) return invalid_arg(fmt::format("vCPU '{}' can't be modified", vcpu));
    return operation_unsupported(fmt::format("vcpu '{}' can't be {}plugged", vcpu, on ? "hot" : "un"));
  }
  return {};
}

Status get_launch_security(Call& call) {
  u32 flags = 0;
  TRY(read_domain(call, flags));
  TRY(check_flags(flags, kStringOkay, "virDomainGetLaunchSecurityInfo"));
  call.write(TypedParams{});
  return {};
}

Status set_launch_security(Call& call) {
  TRY(read_domain(call));
  return operation_unsupported("setting a launch secret is only supported in SEV-enabled domains");
}

Status start_dirty_rate(Call& call) {
  i32 seconds = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, seconds, flags));
  constexpr i32 kShortest_s = 1, kLongest_s = 60;
  if (seconds < kShortest_s || seconds > kLongest_s)
    return config_unsupported(fmt::format("seconds={} is invalid, please choose value within [{}, {}].", seconds, kShortest_s, kLongest_s));
  if (!domain->active()) return operation_invalid("domain is not running");
  return operation_unsupported("calculation of the dirty page rate is not supported by atoll-vmm");
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_GET_PERF_EVENTS, Access::Read, get_perf_events, Where::Quick},
    {Proc::DOMAIN_SET_PERF_EVENTS, Access::Write, set_perf_events, Where::Quick},
    {Proc::DOMAIN_SET_VCPU, Access::Write, set_vcpu, Where::Quick},
    {Proc::DOMAIN_GET_LAUNCH_SECURITY_INFO, Access::Read, get_launch_security, Where::Quick},
    {Proc::DOMAIN_SET_LAUNCH_SECURITY_STATE, Access::Write, set_launch_security, Where::Quick},
    {Proc::DOMAIN_START_DIRTY_RATE_CALC, Access::Write, start_dirty_rate, Where::Quick},
};

}  // namespace

std::span<const Procedure> domain_absent_rows() { return kRows; }

}  // namespace atl::manage
