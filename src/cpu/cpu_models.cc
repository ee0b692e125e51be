#include "cpu/cpu_models.h"

#include <algorithm>

#include "base/check.h"

namespace atl::cpu {
namespace {

using Kind = CpuModel::Kind;

constexpr std::string_view kIntel = "GenuineIntel", kAmd = "AuthenticAMD";

constexpr std::string_view kP6 = "fpu de pse tsc msr pae mce cx8 apic sep pge cmov pat mmx fxsr sse sse2 pni hypervisor";
constexpr std::string_view kX64 = "mtrr mca clflush pse36 lm nx syscall cx16";
constexpr std::string_view kRomeExtra =
    "clwb clzero rdpid umip wbnoinvd xsaves xsaveerptr ibpb amd-stibp perfctr-core";

// clang-format off
constexpr CpuModel kModels[] = {
    {.name = "base", .vendor = kAmd, .family = 6, .model = 6, .stepping = 3, .level = 1, .xlevel = 0x80000000, .model_id = ""},
    {.name = "max", .kind = Kind::Max, .vendor = kAmd, .xlevel = 0x80000008, .model_id = "Atoll Virtual CPU"},
    {.name = "host", .kind = Kind::Host, .vendor = kAmd, .xlevel = 0x80000008, .model_id = ""},
    {.name = "qemu32", .features = kP6, .vendor = kIntel, .level = 4, .xlevel = 0x80000004, .model_id = "QEMU Virtual CPU version 2.5+"},
    {.name = "qemu64", .parent = "x86-64", .features = "lahf-lm", .vendor = kAmd, .family = 15, .model = 107, .stepping = 1, .xlevel = 0x8000000a, .model_id = "QEMU Virtual CPU version 2.5+"},
    {.name = "kvm32", .parent = "qemu32", .features = "mtrr mca clflush pse36", .vendor = kIntel, .family = 15, .model = 6, .stepping = 1, .level = 5, .model_id = "Common 32-bit KVM processor"},
    {.name = "kvm64", .parent = "x86-64", .vendor = kIntel, .family = 15, .model = 6, .stepping = 1, .model_id = "Common KVM processor"},
    {.name = "x86-64", .parent = "qemu32", .features = kX64, .vendor = kAmd, .family = 15, .model = 107, .stepping = 1, .model_id = "x86-64 level 1 processor"},
    {.name = "x86-64-v2", .parent = "x86-64", .features = "lahf-lm popcnt ssse3 sse4.1 sse4.2", .vendor = kAmd, .family = 15, .model = 107, .stepping = 1, .model_id = "x86-64 level 2 processor"},
    {.name = "x86-64-v2-AES", .parent = "x86-64-v2", .features = "aes", .vendor = kAmd, .family = 15, .model = 107, .stepping = 1, .model_id = "x86-64 level 2 processor with AES"},
    {.name = "x86-64-v3", .parent = "x86-64-v2-AES", .features = "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave", .vendor = kAmd, .family = 15, .model = 107, .stepping = 1, .model_id = "x86-64 level 3 processor"},
    {.name = "Conroe", .parent = "x86-64", .features = "lahf-lm ssse3", .vendor = kIntel, .model = 15, .stepping = 3, .level = 10, .model_id = "Intel Celeron_4x0 (Conroe/Merom Class Core 2)"},
    {.name = "Penryn", .parent = "Conroe", .features = "sse4.1", .vendor = kIntel, .model = 23, .stepping = 3, .level = 10, .model_id = "Intel Core 2 Duo P9xxx (Penryn Class Core 2)"},
    {.name = "Nehalem", .parent = "Penryn", .features = "sse4.2 popcnt", .vendor = kIntel, .model = 26, .stepping = 3, .level = 11, .model_id = "Intel Core i7 9xx (Nehalem Class Core i7)"},
    {.name = "Westmere", .parent = "Nehalem", .features = "aes pclmulqdq arat", .vendor = kIntel, .model = 44, .stepping = 1, .level = 11, .model_id = "Westmere E56xx/L56xx/X56xx (Nehalem-C)"},
    {.name = "SandyBridge", .parent = "Westmere", .features = "avx xsave xsaveopt x2apic tsc-deadline rdtscp", .vendor = kIntel, .model = 42, .stepping = 1, .model_id = "Intel Xeon E312xx (Sandy Bridge)"},
    {.name = "IvyBridge", .parent = "SandyBridge", .features = "f16c rdrand fsgsbase smep erms", .vendor = kIntel, .model = 58, .stepping = 9, .model_id = "Intel Xeon E3-12xx v2 (Ivy Bridge)"},
    {.name = "Haswell-noTSX", .parent = "IvyBridge", .features = "fma pcid movbe bmi1 bmi2 avx2 invpcid abm", .vendor = kIntel, .model = 60, .stepping = 1, .model_id = "Intel Core Processor (Haswell, no TSX)"},
    {.name = "Haswell", .parent = "Haswell-noTSX", .features = "hle rtm", .vendor = kIntel, .model = 60, .stepping = 4, .model_id = "Intel Core Processor (Haswell)"},
    {.name = "Broadwell-noTSX", .parent = "Haswell-noTSX", .features = "rdseed adx smap 3dnowprefetch", .vendor = kIntel, .model = 61, .stepping = 2, .model_id = "Intel Core Processor (Broadwell, no TSX)"},
    {.name = "Broadwell", .parent = "Broadwell-noTSX", .features = "hle rtm", .vendor = kIntel, .model = 61, .stepping = 2, .model_id = "Intel Core Processor (Broadwell)"},
    {.name = "Skylake-Client", .parent = "Broadwell", .features = "xsavec xgetbv1", .vendor = kIntel, .model = 94, .stepping = 3, .model_id = "Intel Core Processor (Skylake)"},
    {.name = "Skylake-Client-noTSX-IBRS", .parent = "Broadwell-noTSX", .features = "xsavec xgetbv1 spec-ctrl", .vendor = kIntel, .model = 94, .stepping = 3, .model_id = "Intel Core Processor (Skylake, IBRS, no TSX)"},
    {.name = "Opteron_G3", .parent = "x86-64", .features = "lahf-lm abm misalignsse monitor popcnt rdtscp sse4a svm", .vendor = kAmd, .family = 16, .model = 2, .stepping = 3, .level = 5, .xlevel = 0x8000000a, .model_id = "AMD Opteron 23xx (Gen 3 Class Opteron)"},
    {.name = "EPYC", .parent = "x86-64-v3", .features = "pclmulqdq rdrand rdtscp fsgsbase smep smap rdseed adx clflushopt sha-ni xsaveopt xsavec xgetbv1 arat mmxext fxsr-opt pdpe1gb cr8legacy sse4a misalignsse 3dnowprefetch osvw topoext monitor svm npt nrip-save", .vendor = kAmd, .family = 23, .model = 1, .stepping = 2, .xlevel = 0x8000001e, .model_id = "AMD EPYC Processor"},
    {.name = "EPYC-Rome", .parent = "EPYC", .features = kRomeExtra, .vendor = kAmd, .family = 23, .model = 49, .stepping = 0, .xlevel = 0x8000001e, .model_id = "AMD EPYC-Rome Processor"},
};
// clang-format on

}  // namespace

std::span<const CpuModel> all_models() { return kModels; }

const CpuModel* find_model(std::string_view name) {
  auto model = std::ranges::find(kModels, name, &CpuModel::name);
  return model == std::end(kModels) ? nullptr : &*model;
}

FeatureSet listed_features(const CpuModel& model) {
  FeatureSet set;
  if (const CpuModel* parent = find_model(model.parent)) set = listed_features(*parent);
  for (std::string_view rest = model.features; !rest.empty();) {
    size_t end = std::min(rest.find(' '), rest.size());
    const Feature* feature = find_feature(rest.substr(0, end));
    CHECK(feature != nullptr);  // the table above names only features of the other table
    set.set(*feature, true);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return set;
}

}  // namespace atl::cpu
