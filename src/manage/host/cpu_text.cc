#include "manage/host/cpu_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/endian.h"
#include "cpu/kvm/accelerator.h"
#include "cpu/soft/accelerator.h"
#include "manage/xml/parse.h"
#include "memory/address_space.h"

namespace atl::manage::host {

namespace {

struct Spelling {
  std::string_view ours, libvirt;
};
constexpr Spelling kSpellings[] = {
    {"pclmulqdq", "pclmuldq"},    {"ds-cpl", "ds_cpl"},
    {"tsc-adjust", "tsc_adjust"}, {"fxsr-opt", "fxsr_opt"},
    {"lahf-lm", "lahf_lm"},       {"cmp-legacy", "cmp_legacy"},
    {"nodeid-msr", "nodeid_msr"}, {"perfctr-core", "perfctr_core"},
    {"perfctr-nb", "perfctr_nb"},
};

struct VendorName {
  std::string_view cpuid, libvirt;
};
constexpr VendorName kVendors[] = {{"GenuineIntel", "Intel"}, {"AuthenticAMD", "AMD"}, {"HygonGenuine", "Hygon"}};

std::string vendor_word(std::string_view cpuid) {
  for (const VendorName& v : kVendors)
    if (v.cpuid == cpuid) return std::string(v.libvirt);
  return "";
}

unsigned count(const cpu::FeatureSet& set) {
  unsigned bits = 0;
  for (unsigned w = 0; w < cpu::kFeatureWords; ++w)
    bits += static_cast<unsigned>(std::popcount(set.word(cpu::FeatureWord(w))));
  return bits;
}

/// Bits of `a` that `b` lacks.
cpu::FeatureSet minus(const cpu::FeatureSet& a, const cpu::FeatureSet& b) {
  cpu::FeatureSet result;
  for (unsigned w = 0; w < cpu::kFeatureWords; ++w)
    result.word(cpu::FeatureWord(w)) = a.word(cpu::FeatureWord(w)) & ~b.word(cpu::FeatureWord(w));
  return result;
}

cpu::FeatureSet both(const cpu::FeatureSet& a, const cpu::FeatureSet& b) { return minus(a, minus(a, b)); }

/// A guest's processor tells about its hypervisor; that is no feature of a processor.
bool is_of_cpu(const cpu::Feature& feature) {
  return feature.word != cpu::FeatureWord::kKvmEax && feature.name != "hypervisor";
}

std::vector<std::string> names_of(const cpu::FeatureSet& set) {
  std::vector<std::string> names;
  for (const cpu::Feature& feature : cpu::all_features())
    if (set.has(feature) && is_of_cpu(feature)) names.push_back(libvirt_feature(feature.name));
  return names;
}

/// The model's features, but for the hypervisor's.
cpu::FeatureSet features_of(const cpu::CpuModel& model) {
  cpu::FeatureSet set = cpu::listed_features(model);
  for (const cpu::Feature& feature : cpu::all_features())
    if (!is_of_cpu(feature)) set.set(feature, false);
  return set;
}

}  // namespace

std::string libvirt_feature(std::string_view name) {
  for (const Spelling& s : kSpellings)
    if (s.ours == name) return std::string(s.libvirt);
  return std::string(name);
}

const cpu::Feature* find_libvirt_feature(std::string_view name) {
  for (const Spelling& s : kSpellings)
    if (s.libvirt == name) return cpu::find_feature(s.ours);
  return cpu::find_feature(name);
}

std::vector<const cpu::CpuModel*> named_models() {
  std::vector<const cpu::CpuModel*> models;
  for (const cpu::CpuModel& model : cpu::all_models())
    if (model.kind == cpu::CpuModel::Kind::Listed && model.name != "base" && !model.name.starts_with("x86-64"))
      models.push_back(&model);
  return models;
}

const cpu::FeatureSet& host_features() {
  static const cpu::FeatureSet features(cpu::host_cpuid());
  return features;
}

std::string host_vendor() {
  cpu::CpuidEntry entry = cpu::host_cpuid().query(0, 0);
  char text[12];
  store_le<u32>(text, entry.ebx);
  store_le<u32>(text + 4, entry.edx);
  store_le<u32>(text + 8, entry.ecx);
  return std::string(text, sizeof text);
}

CpuText describe_cpu(const cpu::FeatureSet& features, const std::string& vendor) {
  const cpu::CpuModel* best = cpu::find_model("qemu64");
  // Of another vendor's models only the plain ones are of use. A missing feature weighs more than an unnamed one.
  auto cost = [&](const cpu::CpuModel& model) {
    cpu::FeatureSet listed = features_of(model);
    return count(minus(features, listed)) + 3 * count(minus(listed, features));
  };
  for (const cpu::CpuModel* model : named_models())
    if ((model->vendor == vendor || model->name == "qemu64") && cost(*model) < cost(*best)) best = model;
  CpuText text{std::string(best->name), vendor_word(vendor), {}, {}};
  text.required = names_of(minus(features, features_of(*best)));
  text.disabled = names_of(minus(features_of(*best), features));
  return text;
}

GuestCpu find_guest_cpu() {
  GuestCpu result;
  memory::AddressSpace memory("memory", u64{1} << 52), ports("ports", 1 << 16);
  cpu::VmOptions options{.memory = &memory, .ports = &ports};
  if (cpu::kvm_usable(false)) {
    if (auto vm = cpu::create_kvm_vm(options, {})) {
      result.has_kvm = true;
      result.features = cpu::FeatureSet((*vm)->cpuid_limits().supported);
      return result;
    }
  }
  if (auto vm = cpu::create_soft_vm(options)) result.features = cpu::FeatureSet((*vm)->cpuid_limits().supported);
  return result;
}

Result<cpu::FeatureSet> read_cpu(const xml::Element& element) {
  cpu::FeatureSet set;
  std::string name = element.child_text("model").value_or("");
  if (element.attribute("mode") == "host-passthrough" || element.attribute("mode") == "host-model")
    set = host_features();
  else if (name.empty())
    return Error(Code::XmlError, "no CPU model specified", Part::Cpu);
  if (!name.empty()) {
    const cpu::CpuModel* model = cpu::find_model(name);
    if (!model) return Error(Code::InternalError, fmt::format("Unknown CPU model {}", name), Part::Cpu);
    set = features_of(*model);
  }
  for (const xml::Element* child : element.children("feature")) {
    const cpu::Feature* feature = find_libvirt_feature(child->attribute("name"));
    if (!feature)
      return Error(Code::InternalError, fmt::format("Unknown CPU feature {}", child->attribute("name")), Part::Cpu);
    std::string policy = child->attribute("policy");
    if (policy == "optional") continue;
    set.set(*feature, policy != "disable" && policy != "forbid");
  }
  return set;
}

Comparison compare_cpu(const cpu::FeatureSet& host, const cpu::FeatureSet& wanted) {
  if (count(minus(wanted, host)) > 0) return Comparison::Incompatible;
  return names_of(minus(host, wanted)).empty() ? Comparison::Identical : Comparison::Superset;
}

Result<Comparison> compare_definition(const cpu::FeatureSet& host, const xml::Element& element) {
  const std::string arch = element.child_text("arch").value_or("x86_64");
  if (arch != "x86_64" && arch != "i686") return Comparison::Incompatible;
  if (element.child_text("model").value_or("").empty()) {
    if (element.children("feature").empty()) return Comparison::Superset;
    return Error(Code::XmlError, "Non-empty feature list specified without CPU model", Part::Cpu);
  }
  const cpu::FeatureSet wanted = TRY(read_cpu(element));
  for (const xml::Element* child : element.children("feature"))
    if (const cpu::Feature* feature = find_libvirt_feature(child->attribute("name")); feature && child->attribute("policy") == "forbid" && host.has(*feature))
      return Comparison::Incompatible;
  return compare_cpu(host, wanted);
}

Result<xml::Element> baseline_cpu(const std::vector<std::string>& documents, bool expands, bool migratable) {
  if (documents.empty()) return invalid_arg("no CPUs given");
  std::optional<cpu::FeatureSet> common;
  std::string vendor;
  for (const std::string& document : documents) {
    xml::Element root = TRY(xml::parse(document, "(CPU_definition)"));
    const xml::Element* element = root.name() == "cpu" ? &root : root.find("host/cpu");
    if (!element) return Error(Code::XmlError, "no <cpu> element in the document", Part::Cpu);
    cpu::FeatureSet set = TRY(read_cpu(*element));
    common = common ? both(*common, set) : set;
    for (const VendorName& v : kVendors)
      if (v.libvirt == element->child_text("vendor").value_or("")) vendor = v.cpuid;
  }
  // A guest cannot take the rate of its clock along.
  if (migratable) common->set(*cpu::find_feature("invtsc"), false);
  CpuText text = describe_cpu(*common, vendor.empty() ? host_vendor() : vendor);
  if (expands) text.required = names_of(*common);
  if (vendor.empty()) text.vendor.clear();
  xml::Element result("cpu");
  result.set("mode", "custom").set("match", "exact");
  add_cpu(result, text, true);
  return result;
}

void add_cpu(xml::Element& parent, const CpuText& text, bool with_policy) {
  xml::Element& model = parent.add("model", text.model);
  if (with_policy) model.set("fallback", "forbid");
  if (!text.vendor.empty()) parent.add("vendor", text.vendor);
  auto add = [&](const std::string& name, std::string_view policy) {
    xml::Element& feature = parent.add("feature");
    if (with_policy) feature.set("policy", policy);
    feature.set("name", name);
  };
  for (const std::string& name : text.required) add(name, "require");
  if (!with_policy) return;
  for (const std::string& name : text.disabled) add(name, "disable");
}

}  // namespace atl::manage::host
