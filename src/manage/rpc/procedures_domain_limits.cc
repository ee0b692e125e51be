// Limits of a VM's control group: scheduler, memory, block devices; live and in the stored definition.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "manage/domain/tuning.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

/// A parameter and the element that keeps it, with what the kernel has where nothing is set.
struct Knob {
  enum class Kind : u8 { Shares, Period, Quota, Size, Weight };
  std::string_view param, path, element;
  Kind kind;
};

constexpr Knob kSchedulerKnobs[] = {
    {"cpu_shares", "cputune", "shares", Knob::Kind::Shares},
    {"vcpu_period", "cputune", "period", Knob::Kind::Period},
    {"vcpu_quota", "cputune", "quota", Knob::Kind::Quota},
    {"emulator_period", "cputune", "emulator_period", Knob::Kind::Period},
    {"emulator_quota", "cputune", "emulator_quota", Knob::Kind::Quota},
    {"global_period", "cputune", "global_period", Knob::Kind::Period},
    {"global_quota", "cputune", "global_quota", Knob::Kind::Quota},
    {"iothread_period", "cputune", "iothread_period", Knob::Kind::Period},
    {"iothread_quota", "cputune", "iothread_quota", Knob::Kind::Quota},
};
constexpr Knob kMemoryKnobs[] = {{"hard_limit", "memtune", "hard_limit", Knob::Kind::Size},
                                 {"soft_limit", "memtune", "soft_limit", Knob::Kind::Size},
                                 {"swap_hard_limit", "memtune", "swap_hard_limit", Knob::Kind::Size}};
constexpr Knob kBlkioKnobs[] = {{"weight", "blkiotune", "weight", Knob::Kind::Weight}};

/// Of whole seconds' thousandths up to a second; quotas as large as the kernel takes them (CFS bandwidth control).
Status check_range(const Knob& knob, i64 value) {
  constexpr i64 kLeast = 1000, kLongest = 1'000'000, kMost = 17'592'186'044'415;
  const i64 most = knob.kind == Knob::Kind::Period ? kLongest : kMost;
  if (knob.kind != Knob::Kind::Period && knob.kind != Knob::Kind::Quota) return {};
  if ((value > 0 && value < kLeast) || value > most)
    return invalid_arg(fmt::format("value of '{}' is out of range [{}, {}]", knob.param, kLeast, most));
  return {};
}

/// Writes parameters into the elements of `knobs`; one that has no element there is refused by name.
Status put_knobs(Element& tree, const TypedParams& params, std::span<const Knob> knobs) {
  for (const auto& param : params) {
    auto knob = std::find_if(knobs.begin(), knobs.end(), [&](const Knob& k) { return k.param == param.name; });
    if (knob == knobs.end()) return Error(Code::ArgumentUnsupported, fmt::format("parameter '{}' not supported", param.name));
    const auto value = integer_of(param);
    if (!value) return invalid_arg(fmt::format("invalid type for parameter '{}'", param.name));
    TRY(check_range(*knob, *value));
    Element& section = ensure(tree, knob->path);
    const bool no_limit = knob->kind == Knob::Kind::Size && static_cast<u64>(*value) >= kUnlimitedKib;
    if (no_limit) section.remove(knob->element);
    else ensure(section, knob->element).set_text(std::to_string(*value));
    if (section.children().empty()) tree.remove(knob->path);
  }
  put_in_order(tree);
  return {};
}

/// Clients that registered for it hear of changed limits of a running domain by the names of its XML.
void tell(Call& call, const Domain& domain, const TypedParams& params) {
  TypedParams told;
  for (const auto& param : params) told.emplace_back("cputune." + param.name, param.value);
  call.daemon().events().domain(DomainEvent::Tunable, domain.ref(), told);
}

Status set_knobs(Call& call, Domain& domain, const TypedParams& params, u32 flags, std::span<const Knob> knobs) {
  auto job = TRY(domain.begin_job());
  const Impact impact = TRY(impact_of(domain, flags));
  auto edit = [&](Element& tree) { return put_knobs(tree, params, knobs); };
  if (impact.live) {
    Element tree = TRY(domain.current());
    TRY(edit(tree));
    auto vm = domain.running();
    if (!vm) return operation_invalid("domain is not running");
    TRY(apply_group_tuning(vm->group, tree));
    TRY(apply_thread_quotas(tree, *vm));
    if (knobs.data() == kMemoryKnobs) TRY(apply_memory_limits(vm->group, tree));
    TRY(edit_live(call.daemon().domains(), domain, edit));
    if (knobs.data() == kSchedulerKnobs) tell(call, domain, params);
  }
  if (impact.config) TRY(edit_config(call.daemon().domains(), domain, edit));
  return {};
}

/// What the kernel has where nothing is set, in the scale of the version of its control groups.
struct Usual {
  u64 shares = 1024;
  i64 quota_us = -1;
  u32 blkio_weight = 0;
};

Usual usual_limits(const Domain& domain) {
  constexpr i64 kLongestQuota_us = 17'592'186'044'415;  // what libvirt says for "max"
  const auto group = domain.group();
  if (!group) return {};
  const u32 weight = group->has("io") || group->has("blkio") ? 100 : 0;
  if (!group->is_v2()) return {.blkio_weight = weight};
  return {.shares = 100, .quota_us = kLongestQuota_us, .blkio_weight = weight};
}

// --- scheduler

Status get_scheduler_type(Call& call) {
  TRY(read_domain(call));
  call.write("posix", static_cast<i32>(std::size(kSchedulerKnobs)));
  return {};
}

/// What is not set is the kernel's default where the domain runs, and 0 in a definition.
TypedParams scheduler_params(const Domain& domain, const Element& tree) {
  const bool runs = tree.has_attribute("id");
  const Usual usual = usual_limits(domain);
  auto number = [&](const Knob& knob, i64 fallback) {
    return parse_i64(text_at(tree, fmt::format("{}/{}", knob.path, knob.element))).value_or(runs ? fallback : 0);
  };
  TypedParams params;
  for (const auto& knob : kSchedulerKnobs) {
    if (knob.kind == Knob::Kind::Quota) params.emplace_back(std::string(knob.param), number(knob, usual.quota_us));
    else params.emplace_back(std::string(knob.param), static_cast<u64>(number(knob, knob.kind == Knob::Kind::Shares ? static_cast<i64>(usual.shares) : 100'000)));
  }
  return params;
}

Status get_scheduler(Call& call) {
  i32 asked = 0;
  auto domain = TRY(read_domain(call, asked));
  const Element tree = TRY(domain->current());
  call.write(scheduler_params(*domain, tree));
  return {};
}

Status get_scheduler_flags(Call& call) {
  i32 asked = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, asked, flags));
  TRY(check_flags(flags, kAffect | kStringOkay, "virDomainGetSchedulerParametersFlags"));
  const Element tree = TRY(tree_for(*domain, flags & kAffect));
  call.write(scheduler_params(*domain, tree));
  return {};
}

Status set_scheduler(Call& call) {
  TypedParams params;
  auto domain = TRY(read_domain(call, params));
  return set_knobs(call, *domain, params, 0, kSchedulerKnobs);
}

Status set_scheduler_flags(Call& call) {
  TypedParams params;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, params, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetSchedulerParametersFlags"));
  return set_knobs(call, *domain, params, flags, kSchedulerKnobs);
}

// --- memory

Status set_memory_params(Call& call) {
  TypedParams params;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, params, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetMemoryParameters"));
  return set_knobs(call, *domain, params, flags, kMemoryKnobs);
}

Status get_memory_params(Call& call) {
  i32 asked = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, asked, flags));
  TRY(check_flags(flags, kAffect | kStringOkay, "virDomainGetMemoryParameters"));
  const Element tree = TRY(tree_for(*domain, flags & kAffect));
  TypedParams params;
  for (const auto& knob : kMemoryKnobs) {
    const std::string text = text_at(tree, fmt::format("{}/{}", knob.path, knob.element));
    params.emplace_back(std::string(knob.param), parse_u64(text).value_or(kUnlimitedKib));
  }
  call.write_params(params, asked);
  return {};
}

// --- block devices

/// Limits of single host devices: "/dev/sda,500,/dev/sdb,200" on the wire, <device> elements in the XML.
struct DeviceKnob {
  std::string_view param, element;
  ControlGroup::DeviceLimit limit;
};
constexpr DeviceKnob kDeviceKnobs[] = {{"device_weight", "weight", ControlGroup::DeviceLimit::Weight},
                                       {"device_read_iops_sec", "read_iops_sec", ControlGroup::DeviceLimit::ReadOps},
                                       {"device_write_iops_sec", "write_iops_sec", ControlGroup::DeviceLimit::WriteOps},
                                       {"device_read_bytes_sec", "read_bytes_sec", ControlGroup::DeviceLimit::ReadBytes},
                                       {"device_write_bytes_sec", "write_bytes_sec", ControlGroup::DeviceLimit::WriteBytes}};

Element& device_entry(Element& tune, std::string_view path) {
  for (Element* device : each(tune, "device"))
    if (text_at(*device, "path") == path) return *device;
  Element& device = tune.add("device");
  device.add("path", path);
  return device;
}

/// A limit of 0 goes.
Status put_device_limits(Element& tree, const DeviceKnob& knob, std::string_view text) {
  const auto words = split(text, ',');
  if (words.size() % 2) return invalid_arg(fmt::format("unable to parse blkio device '{}' '{}'", knob.param, text));
  Element& tune = ensure(tree, "blkiotune");
  for (size_t i = 0; i + 1 < words.size(); i += 2) {
    const auto value = parse_u64(words[i + 1]);
    if (!value || words[i].empty()) return invalid_arg(fmt::format("invalid value '{}' for parameter '{}' of device '{}'", words[i + 1], knob.param, words[i]));
    Element& device = device_entry(tune, words[i]);
    device.remove(knob.element);
    if (*value) device.add(knob.element, *value);
  }
  tune.content().remove_if([](const Element& child) { return child.name() == "device" && child.children().size() == 1; });
  if (tune.children().empty()) tree.remove("blkiotune");
  return {};
}

/// What became 0 is in the definition no more, but still in the kernel.
Status lift_device_limits(const ControlGroup& group, const TypedParams& params) {
  for (const auto& param : params) {
    auto knob = std::ranges::find(kDeviceKnobs, param.name, &DeviceKnob::param);
    const std::string* text = std::get_if<std::string>(&param.value);
    if (knob == std::end(kDeviceKnobs) || !text) continue;
    const auto words = split(*text, ',');
    for (size_t i = 0; i + 1 < words.size(); i += 2)
      if (parse_u64(words[i + 1]) == 0) TRY(group.set_device_limit(std::string(words[i]), knob->limit, 0));
  }
  return {};
}

std::string device_limits(const Element& tree, const DeviceKnob& knob) {
  std::string text;
  const Element* tune = tree.child("blkiotune");
  for (const Element* device : tune ? tune->children("device") : std::vector<const Element*>())
    if (const std::string value = text_at(*device, knob.element); !value.empty())
      text += fmt::format("{}{},{}", text.empty() ? "" : ",", text_at(*device, "path"), value);
  return text;
}

Status set_blkio(Call& call) {
  TypedParams params, plain;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, params, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetBlkioParameters"));
  auto job = TRY(domain->begin_job());
  const Impact impact = TRY(impact_of(*domain, flags));
  auto edit = [&](Element& tree) -> Status {
    for (const auto& param : params) {
      auto knob = std::ranges::find(kDeviceKnobs, param.name, &DeviceKnob::param);
      const std::string* text = std::get_if<std::string>(&param.value);
      if (knob == std::end(kDeviceKnobs)) TRY(put_knobs(tree, {param}, kBlkioKnobs));
      else if (!text) return invalid_arg(fmt::format("invalid type for parameter '{}'", param.name));
      else TRY(put_device_limits(tree, *knob, *text));
    }
    put_in_order(tree);
    return {};
  };
  if (impact.live) {
    Element tree = TRY(domain->current());
    TRY(edit(tree));
    auto group = domain->group();
    if (!group) return operation_invalid("domain is not running");
    TRY(apply_group_tuning(*group, tree));
    TRY(lift_device_limits(*group, params));
    TRY(edit_live(call.daemon().domains(), *domain, edit));
  }
  if (impact.config) TRY(edit_config(call.daemon().domains(), *domain, edit));
  return {};
}

Status get_blkio(Call& call) {
  i32 asked = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, asked, flags));
  TRY(check_flags(flags, kAffect | kStringOkay, "virDomainGetBlkioParameters"));
  const Element tree = TRY(tree_for(*domain, flags & kAffect));
  const u32 usual = tree.has_attribute("id") ? usual_limits(*domain).blkio_weight : 0;
  TypedParams params = {{"weight", static_cast<u32>(parse_u64(text_at(tree, "blkiotune/weight")).value_or(usual))}};
  for (const auto& knob : kDeviceKnobs) params.emplace_back(std::string(knob.param), device_limits(tree, knob));
  call.write_params(params, asked);
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_GET_SCHEDULER_TYPE, Access::Read, get_scheduler_type, Where::Quick},
    {Proc::DOMAIN_GET_SCHEDULER_PARAMETERS, Access::Read, get_scheduler},
    {Proc::DOMAIN_GET_SCHEDULER_PARAMETERS_FLAGS, Access::Read, get_scheduler_flags},
    {Proc::DOMAIN_SET_SCHEDULER_PARAMETERS, Access::Write, set_scheduler},
    {Proc::DOMAIN_SET_SCHEDULER_PARAMETERS_FLAGS, Access::Write, set_scheduler_flags},
    {Proc::DOMAIN_SET_MEMORY_PARAMETERS, Access::Write, set_memory_params},
    {Proc::DOMAIN_GET_MEMORY_PARAMETERS, Access::Read, get_memory_params},
    {Proc::DOMAIN_SET_BLKIO_PARAMETERS, Access::Write, set_blkio},
    {Proc::DOMAIN_GET_BLKIO_PARAMETERS, Access::Read, get_blkio},
};

}  // namespace

std::span<const Procedure> domain_limit_rows() { return kRows; }

}  // namespace atl::manage
