// Processors as libvirt's documents describe them: a named model and what it has more or less than that.
#pragma once

#include <string>
#include <vector>

#include "cpu/cpu_features.h"
#include "cpu/cpu_models.h"
#include "manage/error.h"
#include "manage/xml/element.h"

namespace atl::manage::host {

/// A processor by its features.
struct CpuText {
  std::string model;
  std::string vendor;                 // libvirt's word: "Intel", "AMD"; "" for others
  std::vector<std::string> required;  // that it has beyond its model
  std::vector<std::string> disabled;  // that its model has and it lacks
};

/// What guests can have here: the accelerator that they get, and its processor.
struct GuestCpu {
  bool has_kvm = false;
  cpu::FeatureSet features;
};
/// Asks the accelerators themselves. Takes some 30 ms: once.
GuestCpu find_guest_cpu();

/// The host's own, from CPUID.
const cpu::FeatureSet& host_features();
std::string host_vendor();
/// The model that explains most of the features; `may_lack`: some of the model's features may be missing.
CpuText describe_cpu(const cpu::FeatureSet& features, const std::string& vendor);

/// libvirt's spelling of a feature of ours, and back (null: not known).
std::string libvirt_feature(std::string_view name);
const cpu::Feature* find_libvirt_feature(std::string_view name);

/// The features that a <cpu> of a guest or a host asks for. Unknown models and features are errors that name them.
Result<cpu::FeatureSet> read_cpu(const xml::Element& element);

/// virCPUCompareResult.
enum class Comparison : i32 { Incompatible = 0, Identical = 1, Superset = 2 };
Comparison compare_cpu(const cpu::FeatureSet& host, const cpu::FeatureSet& wanted);

/// What a <cpu> asks for, against a host; one that names no model asks for nothing.
Result<Comparison> compare_definition(const cpu::FeatureSet& host, const xml::Element& element);

/// The <cpu> that runs on each of `documents` (<cpu> or whole capabilities).
Result<xml::Element> baseline_cpu(const std::vector<std::string>& documents, bool expands, bool migratable);

/// Models that libvirt's clients know by name.
std::vector<const cpu::CpuModel*> named_models();
/// <model>, <vendor> and <feature/> below `parent`. `with_policy`: features of a domain rather than of a host.
void add_cpu(xml::Element& parent, const CpuText& text, bool with_policy);

}  // namespace atl::manage::host
