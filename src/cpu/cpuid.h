// What CPUID tells a guest: models, features, topology (SDM vol. 2, CPUID; AMD APM vol. 3, appendix E).
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl::cpu {

struct CpuidEntry {
  u32 leaf = 0;
  u32 subleaf = 0;
  bool has_subleaf = false;  // false: the entry answers for every subleaf
  u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// One vCPU's table, ordered by leaf and subleaf.
class CpuidTable {
 public:
  CpuidTable() = default;
  explicit CpuidTable(std::vector<CpuidEntry> entries);
  /// As the instruction answers: leaves past the basic or extended maximum give the highest basic leaf's values.
  /// Dynamic bits (OSXSAVE, XSAVE size) are the accelerator's to fill in.
  CpuidEntry query(u32 leaf, u32 subleaf) const;
  const CpuidEntry* find(u32 leaf, u32 subleaf) const;
  void set(const CpuidEntry& entry);
  const std::vector<CpuidEntry>& entries() const { return entries_; }
  /// Whether the named feature ("avx2", QEMU's spelling) is there.
  bool has(std::string_view feature) const;

 private:
  std::vector<CpuidEntry> entries_;
};

struct Topology {
  u32 cpus = 1;  // sockets * cores * threads
  u32 sockets = 1, cores = 1, threads = 1;
  u32 max_cpus = 1;
};

/// What `-cpu` asked for: a model's name, then features switched on or off, in the order given.
struct CpuRequest {
  std::string model = "max";
  std::vector<std::pair<std::string, bool>> features;
  std::vector<std::pair<std::string, std::string>> properties;  // e.g. level, vendor, model-id
};

/// Every CPUID bit that an accelerator can offer, as leaf values; requested bits outside it are refused or dropped.
struct CpuidLimits {
  CpuidTable supported;
  std::string accelerator;  // for messages and leaf 0x40000000: "kvm" or "soft"
};

/// The table for each vCPU index. An unknown model or feature is an Invalid error that names it; a feature that was asked
/// for explicitly and is not in `limits` is dropped with a warning, as QEMU does without `enforce`.
Result<std::vector<CpuidTable>> build_cpuid(const CpuRequest& request, const CpuidLimits& limits, const Topology& topology);

/// Names for `-cpu help` and query-cpu-definitions.
std::vector<std::string> cpu_model_names();
std::vector<std::string> cpu_feature_names();
/// This host's own CPUID leaves.
CpuidTable host_cpuid();

}  // namespace atl::cpu
