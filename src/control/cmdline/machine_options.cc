// -machine, -accel, -cpu, -smp.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/strings.h"
#include "control/cmdline/handlers.h"
#include "control/cmdline/help.h"
#include "cpu/cpuid.h"

namespace atl::control {

using machine::AcceleratorChoice;
using machine::AcceleratorKind;

Error invalid_option(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

Status expect_switch(KeyValues& values, std::string_view key, bool truth) {
  if (TRY(values.take_bool(key, truth)) == truth) return {};
  return invalid_option(fmt::format("'{}={}' is not supported", key, truth ? "off" : "on"));
}

Status option_machine(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(parse_option_value(use.value, "type"));
  if (values.asks_help()) {
    b.line.text = machine_help();
    return {};
  }
  b.machine_origin = use;
  for (const auto& entry : values.entries()) {
    std::string key = entry.key;
    std::ranges::replace(key, '_', '-');  // older spellings: kernel_irqchip
    b.machine_properties.set(key, entry.value);
  }
  return {};
}

namespace {

Result<AcceleratorKind> accelerator_kind(std::string_view name) {
  if (name == "kvm") return AcceleratorKind::Kvm;
  if (name == "soft" || name == "tcg") return AcceleratorKind::Soft;
  if (name == "qtest") return AcceleratorKind::Idle;
  return invalid_option(fmt::format("invalid accelerator {}", name));
}

std::string_view name_of(AcceleratorKind kind) {
  static constexpr std::string_view kNames[] = {"kvm", "soft", "qtest"};
  return kNames[static_cast<size_t>(kind)];
}

/// `tb-size` is in MiB, as QEMU's.
Status read_soft(KeyValues& values, cpu::SoftOptions& translate) {
  static constexpr std::string_view kTranslation[] = {"off", "on", "always"};
  const auto fallback = static_cast<size_t>(translate.translation);
  translate.translation = static_cast<cpu::Translation>(TRY(values.take_choice("translate", kTranslation, fallback)));
  const u64 mib = TRY(values.take_u64("tb-size", translate.cache_bytes / kMiB));
  if (mib < cpu::SoftOptions::kMinCacheBytes / kMiB || mib > cpu::SoftOptions::kMaxCacheBytes / kMiB)
    return invalid_option("'tb-size' must be between 1 and 1024 (MiB)");
  translate.cache_bytes = mib * kMiB;
  translate.stats = TRY(values.take_bool("stats", translate.stats));
  translate.direct = TRY(values.take_bool("direct", translate.direct));
  translate.perf_map = TRY(values.take_bool("perf-map", translate.perf_map));
  // Each vCPU has its own host thread, always.
  if (values.take("thread").value_or("multi") != "multi") return invalid_option("'thread' supports 'multi' only");
  return {};
}

Status read_kvm(KeyValues& values) {
  if (values.take("kernel-irqchip").value_or("on") != "on") return invalid_option("'kernel-irqchip' supports 'on' only");
  return {};
}

}  // namespace

Result<std::vector<AcceleratorChoice>> accelerators_from_list(std::string_view list) {
  std::vector<AcceleratorChoice> choices;
  for (auto name : split(list, ':'))
    choices.push_back({.kind = TRY(accelerator_kind(name)), .translate = {.translation = cpu::Translation::On}});
  if (choices.size() == 1) choices[0].any_kvm_backend = choices[0].kind == AcceleratorKind::Kvm;
  return choices;
}

Status option_accel(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value, "accel"));
  if (values.asks_help()) {
    b.line.text = "Accelerators supported:\nkvm\nsoft\ntcg (another name for soft)\nqtest (vCPUs that run nothing)\n";
    return {};
  }
  b.accel_option_seen = true;
  std::string list = TRY(values.take_required("accel"));
  auto choices = TRY(accelerators_from_list(list));
  for (auto& choice : choices) {
    KeyValues rest = values;
    if (choice.kind == AcceleratorKind::Kvm) TRY(read_kvm(rest));
    if (choice.kind == AcceleratorKind::Soft) TRY(read_soft(rest, choice.translate));
    if (!rest.empty())
      return invalid_option(fmt::format("Property '{}-accel.{}' not found",
                                        name_of(choice.kind), rest.entries()[0].key));
    b.accelerators.push_back(choice);
  }
  for (auto& choice : b.accelerators)
    choice.any_kvm_backend = b.accelerators.size() == 1 && choice.kind == AcceleratorKind::Kvm;
  return {};
}

Status option_enable_kvm(Builder& b, const OptionUse&) { return option_accel(b, {"-accel", "kvm"}); }

namespace {

constexpr std::string_view kCpuSettings[] = {"enforce", "check", "migratable", "kvm", "host-cache-info", "l3-cache"};

bool is_setting(std::string_view key) {
  return std::find(std::begin(kCpuSettings), std::end(kCpuSettings), key) != std::end(kCpuSettings);
}

}  // namespace

Status option_cpu(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value, "model"));
  if (values.asks_help()) {
    b.line.text = cpu_help();
    return {};
  }
  cpu::CpuRequest request;
  request.model = TRY(values.take_required("model"));
  for (const auto& [key, value, bare] : values.entries()) {
    if (bare && key.size() > 1 && (key[0] == '+' || key[0] == '-')) request.features.emplace_back(key.substr(1), key[0] == '+');
    else if (auto on = parse_bool(value); on && !is_setting(key)) request.features.emplace_back(key, *on);
    else request.properties.emplace_back(key, value);
  }
  b.config().cpu = std::move(request);
  return {};
}

namespace {

constexpr u64 kMaxCpus = 255;  // 8-bit APIC ids, the highest of them is the broadcast

/// -smp as given; 0 = left out.
struct SmpRequest {
  u64 cpus = 0, max_cpus = 0, sockets = 0, cores = 0, threads = 0;
};

Result<SmpRequest> read_smp(KeyValues values) {
  SmpRequest smp;
  for (auto [key, field] : {std::pair{"cpus", &smp.cpus}, {"maxcpus", &smp.max_cpus}, {"sockets", &smp.sockets},
                            {"cores", &smp.cores}, {"threads", &smp.threads}})
    *field = TRY(values.take_u64(key, 0, 1 << 16));
  for (const char* level : {"dies", "clusters"})
    if (TRY(values.take_u64(level, 1)) != 1) return invalid_option(fmt::format("{} not supported by this machine's CPU topology", level));
  if (!values.empty()) return invalid_option(fmt::format("Parameter 'smp.{}' is unexpected", values.entries()[0].key));
  return smp;
}

// QEMU's rule since machine version 6.2: what is not given follows from the rest, and cores are filled before sockets.
void complete(SmpRequest& smp) {
  u64 total = smp.max_cpus ? smp.max_cpus : smp.cpus;
  auto share = [&](u64 others) { return total ? std::max<u64>(1, total / others) : 1; };
  if (!smp.sockets) smp.sockets = smp.cores ? share(smp.cores * std::max<u64>(smp.threads, 1)) : 1;
  if (!smp.threads) smp.threads = smp.cores ? share(smp.sockets * smp.cores) : 1;
  if (!smp.cores) smp.cores = share(smp.sockets * smp.threads);
  if (!total) total = smp.sockets * smp.cores * smp.threads;
  smp.max_cpus = total;
  if (!smp.cpus) smp.cpus = total;
}

Status check_topology(const SmpRequest& smp) {
  if (smp.sockets * smp.cores * smp.threads != smp.max_cpus)
    return invalid_option(fmt::format("Invalid CPU topology: product of the hierarchy must match maxcpus: sockets ({}) * cores ({}) * "
                                      "threads ({}) != maxcpus ({})", smp.sockets, smp.cores, smp.threads, smp.max_cpus));
  if (smp.cpus != smp.max_cpus) return invalid_option("CPU hotplug is not supported: maxcpus must equal cpus");
  if (smp.cpus > kMaxCpus)
    return invalid_option(fmt::format("Invalid SMP CPUs {}. The max CPUs supported by the machine is {}", smp.cpus, kMaxCpus));
  return {};
}

}  // namespace

Status option_smp(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(parse_option_value(use.value, "cpus"));
  SmpRequest smp = TRY(read_smp(std::move(values)));
  complete(smp);
  TRY(check_topology(smp));
  b.config().topology = {static_cast<u32>(smp.cpus), static_cast<u32>(smp.sockets), static_cast<u32>(smp.cores),
                         static_cast<u32>(smp.threads), static_cast<u32>(smp.max_cpus)};
  return {};
}

Status option_no_acpi(Builder& b, const OptionUse&) {
  b.config().acpi = false;
  return {};
}

Status option_no_fd_bootchk(Builder& b, const OptionUse&) {
  b.config().boot.floppy_check = false;
  return {};
}

Status option_no_hpet(Builder& b, const OptionUse&) {
  b.config().hpet = false;
  return {};
}

}  // namespace atl::control
