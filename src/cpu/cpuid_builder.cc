// From `-cpu` to tables: model, then requests, then what the accelerator can do, then the leaves that follow from it.

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/log.h"
#include "cpu/cpu_features.h"
#include "cpu/cpu_models.h"
#include "cpu/cpu_topology.h"
#include "cpu/cpuid.h"

namespace atl::cpu {
namespace {

using enum FeatureWord;

/// Bits of 80000001.EDX that AMD processors copy from 1.EDX.
constexpr u32 kAmdMirror = 0x0183f3ff;

/// Listed by models, but nothing to offer without hardware support for nesting or idling: off unless asked for.
constexpr std::string_view kOffByDefault[] = {"svm", "npt", "nrip-save", "monitor", "acpi"};
/// Derived from the topology, never copied from the accelerator.
constexpr std::string_view kNotInMax[] = {"ht", "cmp-legacy", "topoext", "monitor", "svm", "npt"};
/// What paravirtual guests find by default on KVM.
constexpr std::string_view kKvmDefaults[] = {"kvmclock", "kvm-nopiodelay", "kvm-asyncpf", "kvm-steal-time", "kvm-pv-eoi",
                                             "kvmclock-stable-bit", "x2apic"};

struct Dependency {
  std::string_view feature, needs;
};
/// A feature without the one it needs is no use, and guests crash on it; ordered so that one pass is enough.
constexpr Dependency kDependencies[] = {
    {"xsaveopt", "xsave"}, {"xsavec", "xsave"}, {"xgetbv1", "xsave"}, {"xsaves", "xsave"}, {"xfd", "xsave"},
    {"avx", "xsave"}, {"mpx", "xsave"}, {"pku", "xsave"}, {"fma", "avx"}, {"f16c", "avx"}, {"avx2", "avx"},
    {"vaes", "avx"}, {"vpclmulqdq", "avx"}, {"avx-vnni", "avx2"}, {"avx512f", "avx2"}, {"avx512dq", "avx512f"},
    {"avx512ifma", "avx512f"}, {"avx512pf", "avx512f"}, {"avx512er", "avx512f"}, {"avx512cd", "avx512f"},
    {"avx512bw", "avx512f"}, {"avx512vl", "avx512f"}, {"avx512vbmi", "avx512f"}, {"avx512vbmi2", "avx512f"},
    {"avx512vnni", "avx512f"}, {"avx512bitalg", "avx512f"}, {"avx512-vpopcntdq", "avx512f"},
    {"avx512-4vnniw", "avx512f"}, {"avx512-4fmaps", "avx512f"}, {"avx512-vp2intersect", "avx512f"},
    {"avx512-bf16", "avx512f"}, {"avx512-fp16", "avx512f"},
};

struct XsaveComponent {
  u8 bit;
  std::string_view feature;  // present with it
};
constexpr XsaveComponent kXsaveComponents[] = {
    {2, "avx"}, {3, "mpx"}, {4, "mpx"}, {5, "avx512f"}, {6, "avx512f"}, {7, "avx512f"}, {9, "pku"}, {17, "amx-tile"}, {18, "amx-tile"},
};

/// A request after parsing: what every vCPU of the VM has in common.
struct Plan {
  const CpuModel* model = nullptr;
  FeatureSet features;
  std::vector<const Feature*> wanted;  // asked for by name
  std::string vendor, model_id;
  u32 family = 0, model_number = 0, stepping = 0;
  u32 level = 0, xlevel = 0, phys_bits = 0;
  std::optional<u32> fixed_level, fixed_xlevel;
  bool check = true, enforce = false, migratable = true, show_hypervisor = true;
  bool host_phys_bits = false;
};

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

std::optional<bool> parse_bool(std::string_view text) {
  for (std::string_view yes : {"on", "yes", "true", "y"})
    if (text == yes) return true;
  for (std::string_view no : {"off", "no", "false", "n"})
    if (text == no) return false;
  return std::nullopt;
}

std::optional<u32> parse_number(std::string_view text) {
  int base = text.starts_with("0x") || text.starts_with("0X") ? 16 : 10;
  if (base == 16) text.remove_prefix(2);
  u32 value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

bool is_kvm(const CpuidLimits& limits) { return limits.accelerator == "kvm"; }

std::string text_of(std::initializer_list<u32> registers) {
  std::string text;
  for (u32 r : registers) text.append(reinterpret_cast<const char*>(&r), 4);
  return text.substr(0, text.find('\0'));
}

// -- model -------------------------------------------------------------------------------------------------------------

void take_host_identity(Plan& plan) {
  CpuidTable host = host_cpuid();
  CpuidEntry zero = host.query(0, 0), one = host.query(1, 0);
  plan.vendor = text_of({zero.ebx, zero.edx, zero.ecx});
  plan.family = (one.eax >> 8 & 15) + ((one.eax >> 8 & 15) == 15 ? one.eax >> 20 & 255 : 0);
  plan.model_number = (one.eax >> 4 & 15) | (one.eax >> 12 & 0xf0);
  plan.stepping = one.eax & 15;
  plan.model_id.clear();
  for (u32 leaf = 0x80000002; leaf <= 0x80000004; ++leaf)
    if (const CpuidEntry* e = host.find(leaf, 0)) plan.model_id += text_of({e->eax, e->ebx, e->ecx, e->edx});
}

FeatureSet everything(const CpuidLimits& limits) {
  FeatureSet set, supported(limits.supported);
  for (const Feature& feature : all_features()) set.set(feature, supported.has(feature));
  for (std::string_view name : kNotInMax) set.set(*find_feature(name), false);
  set.set(*find_feature("hypervisor"), true);
  return set;
}

FeatureSet defaults_of(const CpuModel& model, const CpuidLimits& limits) {
  if (model.kind != CpuModel::Kind::Listed) return everything(limits);
  FeatureSet set = listed_features(model);
  for (std::string_view name : kOffByDefault) set.set(*find_feature(name), false);
  if (!is_kvm(limits)) return set;
  FeatureSet supported(limits.supported);
  for (std::string_view name : kKvmDefaults) {
    const Feature& feature = *find_feature(name);
    if (supported.has(feature)) set.set(feature, true);
  }
  return set;
}

Result<Plan> start_plan(const CpuRequest& request, const CpuidLimits& limits) {
  const CpuModel* model = find_model(request.model);
  if (!model) return invalid(fmt::format("unable to find CPU model '{}'", request.model));
  Plan plan{.model = model, .features = defaults_of(*model, limits), .vendor = std::string(model->vendor),
            .model_id = std::string(model->model_id), .family = model->family, .model_number = model->model,
            .stepping = model->stepping, .level = model->level, .xlevel = model->xlevel};
  bool max_is_host = model->kind == CpuModel::Kind::Max && is_kvm(limits);
  if (model->kind == CpuModel::Kind::Host || max_is_host) take_host_identity(plan);
  CpuidEntry zero = limits.supported.query(0, 0);
  if (is_kvm(limits) && zero.ebx) plan.vendor = text_of({zero.ebx, zero.edx, zero.ecx});
  return plan;
}

// -- requests ----------------------------------------------------------------------------------------------------------

void ask_for(Plan& plan, const Feature& feature, bool on) {
  plan.features.set(feature, on);
  std::erase(plan.wanted, &feature);
  if (on) plan.wanted.push_back(&feature);
}

struct BoolProperty {
  std::string_view name;
  bool Plan::* field;
};
constexpr BoolProperty kBoolProperties[] = {
    {"check", &Plan::check}, {"enforce", &Plan::enforce}, {"migratable", &Plan::migratable}, {"kvm", &Plan::show_hypervisor},
};

struct NumberProperty {
  std::string_view name;
  u32 least, most;
  void (*set)(Plan&, u32);
};
constexpr NumberProperty kNumberProperties[] = {
    {"level", 0, 0x3fffffff, [](Plan& p, u32 v) { p.fixed_level = v; }},
    {"min-level", 0, 0x3fffffff, [](Plan& p, u32 v) { p.level = v; }},
    {"xlevel", 0x80000000, 0x8fffffff, [](Plan& p, u32 v) { p.fixed_xlevel = v; }},
    {"min-xlevel", 0x80000000, 0x8fffffff, [](Plan& p, u32 v) { p.xlevel = v; }},
    {"family", 0, 15 + 255, [](Plan& p, u32 v) { p.family = v; }},
    {"model", 0, 255, [](Plan& p, u32 v) { p.model_number = v; }},
    {"stepping", 0, 15, [](Plan& p, u32 v) { p.stepping = v; }},
    {"phys-bits", 32, 52, [](Plan& p, u32 v) { p.phys_bits = v; }},
};

Status set_text_property(Plan& plan, const std::string& name, const std::string& value) {
  if (name == "vendor" && value.size() != 12) return invalid("CPU property 'vendor' must be 12 characters long");
  if (name == "model-id" && value.size() > 48) return invalid("CPU property 'model-id' takes at most 48 characters");
  (name == "vendor" ? plan.vendor : plan.model_id) = value;
  return {};
}

Status set_number_property(Plan& plan, const NumberProperty& property, std::string_view value) {
  std::optional<u32> number = parse_number(value);
  if (!number || *number < property.least || *number > property.most)
    return invalid(fmt::format("CPU property '{}' takes a number from {} to {}, not '{}'", property.name, property.least,
                               property.most, value));
  property.set(plan, *number);
  return {};
}

Status apply_property(Plan& plan, const std::string& model, const std::string& name, const std::string& value) {
  if (name == "vendor" || name == "model-id") return set_text_property(plan, name, value);
  for (const NumberProperty& property : kNumberProperties)
    if (name == property.name) return set_number_property(plan, property, value);
  auto boolean = std::ranges::find(kBoolProperties, name, &BoolProperty::name);
  const Feature* feature = find_feature(name);
  bool host_phys_bits = name == "host-phys-bits";
  if (boolean == std::end(kBoolProperties) && !feature && !host_phys_bits)
    return invalid(fmt::format("Property '{}-x86_64-cpu.{}' not found", model, name));
  std::optional<bool> on = parse_bool(value);
  if (!on) return invalid(fmt::format("CPU property '{}' takes on or off, not '{}'", name, value));
  if (feature) ask_for(plan, *feature, *on);
  else if (host_phys_bits) plan.host_phys_bits = *on;
  else plan.*boolean->field = *on;
  return {};
}

Status apply_requests(Plan& plan, const CpuRequest& request) {
  for (const auto& [name, value] : request.properties) TRY(apply_property(plan, request.model, name, value));
  for (const auto& [name, on] : request.features) TRY(apply_property(plan, request.model, name, on ? "on" : "off"));
  return {};
}

// -- what the accelerator can do ------------------------------------------------------------------------------------------

/// QEMU's warning, so that people and log watchers recognize it.
std::string refusal(const Feature& feature, const CpuidLimits& limits) {
  return fmt::format("{} doesn't support requested feature: CPUID.{}.{} [bit {}]", limits.accelerator,
                     place_of(feature.word).text, feature.name, feature.bit);
}

Status drop_unsupported(Plan& plan, const CpuidLimits& limits) {
  FeatureSet supported(limits.supported);
  for (std::string_view own : {"hypervisor", "ht", "cmp-legacy", "topoext"}) supported.set(*find_feature(own), true);
  for (const Feature& feature : all_features()) {
    if (!plan.features.has(feature) || supported.has(feature)) continue;
    if (plan.enforce) return Error(ErrorKind::Unsupported, refusal(feature, limits));
    if (plan.check) log_warning("{}", refusal(feature, limits));
    plan.features.set(feature, false);
  }
  for (const Dependency& d : kDependencies)
    if (!plan.features.has(d.needs)) plan.features.set(*find_feature(d.feature), false);
  return {};
}

void finish_features(Plan& plan, const CpuidLimits& limits) {
  const Feature& invtsc = *find_feature("invtsc");
  bool asked = std::ranges::find(plan.wanted, &invtsc) != plan.wanted.end();
  if (is_kvm(limits) && plan.migratable && !asked) plan.features.set(invtsc, false);
  u32& kvm = plan.features.word(kKvmEax);
  if (kvm & 1u << 3) kvm |= 1;  // kvmclock: the older pair of MSRs goes with the newer
  u32& ext = plan.features.word(kExt1Edx);
  ext &= ~kAmdMirror | 1u << 11;
  if (plan.vendor == "AuthenticAMD") ext |= plan.features.word(k1Edx) & kAmdMirror;
}

void raise_levels(Plan& plan, const CpuidLimits& limits) {
  const FeatureSet& f = plan.features;
  auto at_least = [](u32& level, u32 needed, bool when) { level = when ? std::max(level, needed) : level; };
  at_least(plan.level, 6, f.word(k6Eax));
  at_least(plan.level, 7, f.word(k7Ebx) | f.word(k7Ecx) | f.word(k7Edx) | f.word(k7_1Eax));
  at_least(plan.level, 0xb, f.has("x2apic"));
  at_least(plan.level, 0xd, f.has("xsave"));
  at_least(plan.level, 0x16, plan.model->kind != CpuModel::Kind::Listed && limits.supported.find(0x16, 0));
  at_least(plan.xlevel, 0x80000001, f.word(kExt1Edx) | f.word(kExt1Ecx));
  at_least(plan.xlevel, 0x80000007, f.word(kExt7Edx));
  at_least(plan.xlevel, 0x80000008, f.has("lm"));
  at_least(plan.xlevel, 0x8000000a, f.has("svm"));
  at_least(plan.xlevel, 0x8000001e, f.has("topoext"));
  plan.level = plan.fixed_level.value_or(plan.level);
  plan.xlevel = plan.fixed_xlevel.value_or(plan.xlevel);
}

// -- leaves ------------------------------------------------------------------------------------------------------------

u32 word_at(std::string_view text, size_t offset) {
  u32 value = 0;
  if (offset < text.size()) std::memcpy(&value, text.data() + offset, std::min<size_t>(4, text.size() - offset));
  return value;
}

u32 signature(const Plan& plan) {
  u32 base_family = std::min(plan.family, 15u);
  return plan.stepping | (plan.model_number & 15) << 4 | base_family << 8 | (plan.model_number >> 4) << 16 |
         (plan.family - base_family) << 20;
}

void add_identity(CpuidTable& table, const Plan& plan) {
  std::string_view v = plan.vendor;
  u32 b = word_at(v, 0), d = word_at(v, 4), c = word_at(v, 8);
  table.set({.leaf = 0, .eax = plan.level, .ebx = b, .ecx = c, .edx = d});
  table.set({.leaf = 1, .eax = signature(plan), .ebx = plan.features.has("clflush") ? 8u << 8 : 0});
  if (plan.vendor == "GenuineIntel" && plan.level >= 2) table.set({.leaf = 2, .eax = 0xff01});  // caches: see leaf 4
  table.set({.leaf = 0x80000000, .eax = plan.xlevel, .ebx = b, .ecx = c, .edx = d});
  table.set({.leaf = 0x80000001, .eax = plan.vendor == "AuthenticAMD" ? signature(plan) : 0});
  for (u32 leaf = 0x80000002; leaf <= std::min(plan.xlevel, 0x80000004u); ++leaf) {
    size_t at = (leaf - 0x80000002) * 16;
    std::string_view id = plan.model_id;
    table.set({.leaf = leaf, .eax = word_at(id, at), .ebx = word_at(id, at + 4), .ecx = word_at(id, at + 8),
               .edx = word_at(id, at + 12)});
  }
}

/// 40 unless told otherwise: UEFI maps all of it, and with the 48 or more bits of a host and no pages of 1 GiB its page tables
/// do not fit into a small guest.
u32 physical_bits(const Plan& plan, const CpuidLimits& limits) {
  constexpr u32 kUsual = 40;
  if (!plan.features.has("lm")) return plan.features.has("pse36") ? 36 : 32;
  const CpuidEntry* sizes = limits.supported.find(0x80000008, 0);
  u32 most = sizes && (sizes->eax & 255) ? sizes->eax & 255 : kUsual;
  if (plan.phys_bits) return std::min(plan.phys_bits, most);
  const bool as_host = plan.host_phys_bits || plan.model->kind == CpuModel::Kind::Host;
  return as_host ? most : std::min(most, kUsual);
}

bool in_levels(const Plan& plan, u32 leaf) {
  if (leaf < 0x40000000) return leaf <= plan.level;
  return leaf < 0x80000000 || leaf <= plan.xlevel;
}

void add_features(CpuidTable& table, const Plan& plan, const CpuidLimits& limits) {
  if (plan.xlevel >= 0x80000008)
    table.set({.leaf = 0x80000008,
               .eax = physical_bits(plan, limits) | (plan.features.has("lm") ? 48u : 32u) << 8});
  for (unsigned i = 0; i < kFeatureWords; ++i) {
    auto word = static_cast<FeatureWord>(i);
    const WordPlace& place = place_of(word);
    if (word == kKvmEax || word == kDEax || !in_levels(plan, place.leaf)) continue;
    const CpuidEntry* found = table.find(place.leaf, place.subleaf);
    CpuidEntry entry = found ? *found : CpuidEntry{.leaf = place.leaf, .subleaf = place.subleaf, .has_subleaf = place.has_subleaf};
    entry.*place.reg |= plan.features.word(word);
    table.set(entry);
  }
  if (const CpuidEntry* seven = table.find(7, 0); seven && plan.features.word(k7_1Eax)) {
    CpuidEntry more = *seven;
    more.eax = 1;  // the highest subleaf
    table.set(more);
  }
}

/// Leaf 0xd: the components that the features call for and the accelerator has.
void add_xsave(CpuidTable& table, const Plan& plan, const CpuidLimits& limits) {
  const CpuidEntry* offered = limits.supported.find(0xd, 0);
  if (!plan.features.has("xsave") || plan.level < 0xd || !offered) return;
  u32 components = offered->eax & 3, size = 576;
  for (const XsaveComponent& c : kXsaveComponents) {
    const CpuidEntry* entry = limits.supported.find(0xd, c.bit);
    if (!plan.features.has(c.feature) || !(offered->eax >> c.bit & 1) || !entry) continue;
    components |= 1u << c.bit;
    size = std::max(size, entry->eax + entry->ebx);
    table.set({.leaf = 0xd, .subleaf = c.bit, .has_subleaf = true, .eax = entry->eax, .ebx = entry->ebx, .ecx = entry->ecx});
  }
  table.set({.leaf = 0xd, .subleaf = 0, .has_subleaf = true, .eax = components, .ebx = size, .ecx = size});
  table.set({.leaf = 0xd, .subleaf = 1, .has_subleaf = true, .eax = plan.features.word(kDEax), .ebx = size});
}

/// Leaves that only the accelerator knows: the TSC's frequency and the hypervisor's own range.
void add_accelerator_leaves(CpuidTable& table, const Plan& plan, const CpuidLimits& limits) {
  bool hypervisor = plan.show_hypervisor && plan.features.has("hypervisor");
  for (CpuidEntry entry : limits.supported.entries()) {
    bool frequency = (entry.leaf == 0x15 || entry.leaf == 0x16) && entry.leaf <= plan.level;
    bool own = entry.leaf >> 16 == 0x4000 && hypervisor;
    if (!frequency && !own) continue;
    if (entry.leaf == 0x40000001) entry.eax &= plan.features.word(kKvmEax);
    table.set(entry);
  }
}

CpuidTable common_table(const Plan& plan, const CpuidLimits& limits) {
  CpuidTable table;
  add_identity(table, plan);
  add_features(table, plan, limits);
  add_xsave(table, plan, limits);
  add_accelerator_leaves(table, plan, limits);
  return table;
}

}  // namespace

Result<std::vector<CpuidTable>> build_cpuid(const CpuRequest& request, const CpuidLimits& limits, const Topology& topology) {
  Plan plan = TRY(start_plan(request, limits));
  TRY(apply_requests(plan, request));
  TRY(drop_unsupported(plan, limits));
  finish_features(plan, limits);
  raise_levels(plan, limits);
  std::vector<CpuidTable> tables(topology.cpus, common_table(plan, limits));
  bool amd = plan.vendor == "AuthenticAMD";
  for (u32 i = 0; i < topology.cpus; ++i)
    add_topology(tables[i], plan.features, topology, i, amd, plan.level, plan.xlevel);
  return tables;
}

std::vector<std::string> cpu_model_names() { return model_names(); }

std::vector<std::string> cpu_feature_names() {
  std::vector<std::string> names;
  for (const Feature& feature : all_features()) names.emplace_back(feature.name);
  std::ranges::sort(names);
  return names;
}

}  // namespace atl::cpu
