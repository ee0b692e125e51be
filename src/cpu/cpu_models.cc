#include "cpu/cpu_models.h"

#include <algorithm>

#include "base/check.h"

namespace atl::cpu {
namespace {

using Kind = CpuModel::Kind;

constexpr std::string_view kIntel = "GenuineIntel", kAmd = "AuthenticAMD", kHygon = "HygonGenuine";

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
    {.name = "Conroe", .parent = "x86-64", .features = "lahf-lm ssse3 -cx16", .vendor = kIntel, .model = 15, .stepping = 3, .level = 10, .model_id = "Intel Celeron_4x0 (Conroe/Merom Class Core 2)"},
    {.name = "Penryn", .parent = "Conroe", .features = "cx16 sse4.1", .vendor = kIntel, .model = 23, .stepping = 3, .level = 10, .model_id = "Intel Core 2 Duo P9xxx (Penryn Class Core 2)"},
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
    {.name = "486", .parent = "base", .features = "fpu hypervisor pse", .vendor = kIntel, .family = 4, .model = 8, .stepping = 0, .level = 1, .xlevel = 0x0, .model_id = ""},
    {.name = "pentium", .parent = "486", .features = "apic cx8 de mce mmx msr tsc", .vendor = kIntel, .family = 5, .model = 4, .level = 1, .xlevel = 0x0, .model_id = ""},
    {.name = "pentium2", .parent = "pentium", .features = "cmov fxsr mca mtrr pae pat pge pse36 sep", .vendor = kIntel, .model = 5, .stepping = 2, .level = 2, .xlevel = 0x0, .model_id = ""},
    {.name = "pentium3", .parent = "pentium2", .features = "sse", .vendor = kIntel, .model = 7, .level = 3, .xlevel = 0x0, .model_id = ""},
    {.name = "athlon", .parent = "pentium3", .features = "3dnow 3dnowext mmxext sse2", .vendor = kAmd, .model = 2, .level = 2, .model_id = "QEMU Virtual CPU version 2.5+"},
    {.name = "n270", .parent = "kvm32", .features = "acpi lahf-lm monitor movbe nx ss ssse3 -pse36", .vendor = kIntel, .model = 28, .stepping = 2, .level = 10, .model_id = "Intel(R) Atom(TM) CPU N270   @ 1.60GHz"},
    {.name = "coreduo", .parent = "n270", .features = "-lahf-lm -movbe -ssse3", .vendor = kIntel, .model = 14, .stepping = 8, .level = 10, .model_id = "Genuine Intel(R) CPU           T2600  @ 2.16GHz"},
    {.name = "core2duo", .parent = "Conroe", .features = "acpi cx16 monitor ss", .vendor = kIntel, .model = 15, .stepping = 11, .level = 10, .model_id = "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz"},
    {.name = "phenom", .parent = "Opteron_G3", .features = "3dnow 3dnowext fxsr-opt mmxext npt pdpe1gb -misalignsse", .vendor = kAmd, .family = 16, .model = 2, .level = 5, .xlevel = 0x8000001a, .model_id = "AMD Phenom(tm) 9550 Quad-Core Processor"},
    {.name = "Opteron_G1", .parent = "qemu64", .features = "-cx16 -lahf-lm", .vendor = kAmd, .family = 15, .stepping = 1, .level = 5, .model_id = "AMD Opteron 240 (Gen 1 Class Opteron)"},
    {.name = "Opteron_G2", .parent = "qemu64", .features = "svm", .vendor = kAmd, .family = 15, .stepping = 1, .level = 5, .xlevel = 0x8000000a, .model_id = "AMD Opteron 22xx (Gen 2 Class Opteron)"},
    {.name = "Opteron_G4", .parent = "Opteron_G3", .features = "3dnowprefetch aes avx fma4 npt nrip-save pclmulqdq pdpe1gb sse4.1 sse4.2 ssse3 xop xsave -monitor", .vendor = kAmd, .family = 21, .model = 1, .stepping = 2, .xlevel = 0x8000001a, .model_id = "AMD Opteron 62xx class CPU"},
    {.name = "Opteron_G5", .parent = "Opteron_G4", .features = "f16c fma tbm", .vendor = kAmd, .family = 21, .model = 2, .stepping = 0, .xlevel = 0x8000001a, .model_id = "AMD Opteron 63xx class CPU"},
    {.name = "KnightsMill", .parent = "Broadwell-noTSX", .features = "avx512-4fmaps avx512-4vnniw avx512-vpopcntdq avx512cd avx512er avx512f avx512pf pdpe1gb ss -invpcid -pcid -smap", .vendor = kIntel, .model = 133, .stepping = 0, .model_id = "Intel Xeon Phi Processor (Knights Mill)"},
    {.name = "Denverton", .parent = "IvyBridge", .features = "3dnowprefetch arch-capabilities clflushopt monitor movbe mpx pdpe1gb rdseed sha-ni smap spec-ctrl ssbd xgetbv1 xsavec -avx -f16c", .vendor = kIntel, .model = 95, .stepping = 1, .level = 0x15, .model_id = "Intel Atom Processor (Denverton)"},
    {.name = "Denverton-v2", .parent = "Denverton", .features = "-monitor -mpx", .vendor = kIntel, .model = 95, .stepping = 1, .level = 0x15, .model_id = "Intel Atom Processor (Denverton)"},
    {.name = "Denverton-v3", .parent = "Denverton", .features = "xsaves -monitor -mpx", .vendor = kIntel, .model = 95, .stepping = 1, .level = 0x15, .model_id = "Intel Atom Processor (Denverton)"},
    {.name = "Snowridge", .parent = "Denverton", .features = "cldemote clwb core-capability gfni movdir64b movdiri umip", .vendor = kIntel, .model = 134, .stepping = 1, .level = 0x1b, .model_id = "Intel Atom Processor (SnowRidge)"},
    {.name = "Snowridge-v2", .parent = "Snowridge", .features = "-mpx", .vendor = kIntel, .model = 134, .stepping = 1, .level = 0x1b, .model_id = "Intel Atom Processor (Snowridge, no MPX)"},
    {.name = "Snowridge-v3", .parent = "Snowridge", .features = "xsaves -mpx", .vendor = kIntel, .model = 134, .stepping = 1, .level = 0x1b, .model_id = "Intel Atom Processor (Snowridge, no MPX)"},
    {.name = "Snowridge-v4", .parent = "Snowridge", .features = "xsaves -core-capability -mpx", .vendor = kIntel, .model = 134, .stepping = 1, .level = 0x1b, .model_id = "Intel Atom Processor (Snowridge, no MPX)"},
    {.name = "Nehalem-IBRS", .parent = "Nehalem", .features = "spec-ctrl", .vendor = kIntel, .model = 26, .level = 11, .model_id = "Intel Core i7 9xx (Nehalem Core i7, IBRS update)"},
    {.name = "Westmere-IBRS", .parent = "Westmere", .features = "spec-ctrl", .vendor = kIntel, .model = 44, .stepping = 1, .level = 11, .model_id = "Westmere E56xx/L56xx/X56xx (IBRS update)"},
    {.name = "SandyBridge-IBRS", .parent = "SandyBridge", .features = "spec-ctrl", .vendor = kIntel, .model = 42, .stepping = 1, .model_id = "Intel Xeon E312xx (Sandy Bridge, IBRS update)"},
    {.name = "IvyBridge-IBRS", .parent = "IvyBridge", .features = "spec-ctrl", .vendor = kIntel, .model = 58, .stepping = 9, .model_id = "Intel Xeon E3-12xx v2 (Ivy Bridge, IBRS)"},
    {.name = "Haswell-IBRS", .parent = "Haswell", .features = "spec-ctrl", .vendor = kIntel, .model = 60, .stepping = 4, .model_id = "Intel Core Processor (Haswell, IBRS)"},
    {.name = "Haswell-noTSX-IBRS", .parent = "Haswell-noTSX", .features = "spec-ctrl", .vendor = kIntel, .model = 60, .stepping = 1, .model_id = "Intel Core Processor (Haswell, no TSX, IBRS)"},
    {.name = "Broadwell-IBRS", .parent = "Broadwell", .features = "spec-ctrl", .vendor = kIntel, .model = 61, .stepping = 2, .model_id = "Intel Core Processor (Broadwell, IBRS)"},
    {.name = "Broadwell-noTSX-IBRS", .parent = "Broadwell-noTSX", .features = "spec-ctrl", .vendor = kIntel, .model = 61, .stepping = 2, .model_id = "Intel Core Processor (Broadwell, no TSX, IBRS)"},
    {.name = "Skylake-Client-IBRS", .parent = "Skylake-Client", .features = "spec-ctrl", .vendor = kIntel, .model = 94, .model_id = "Intel Core Processor (Skylake, IBRS)"},
    {.name = "Skylake-Client-v4", .parent = "Skylake-Client", .features = "spec-ctrl xsaves -hle -rtm", .vendor = kIntel, .model = 94, .model_id = "Intel Core Processor (Skylake, IBRS, no TSX)"},
    {.name = "Skylake-Server", .parent = "Skylake-Client", .features = "avx512bw avx512cd avx512dq avx512f avx512vl clflushopt clwb pdpe1gb pku", .vendor = kIntel, .model = 85, .stepping = 4, .model_id = "Intel Xeon Processor (Skylake)"},
    {.name = "Skylake-Server-IBRS", .parent = "Skylake-Server", .features = "spec-ctrl -clflushopt", .vendor = kIntel, .model = 85, .stepping = 4, .model_id = "Intel Xeon Processor (Skylake, IBRS)"},
    {.name = "Skylake-Server-noTSX-IBRS", .parent = "Skylake-Server", .features = "spec-ctrl -clflushopt -hle -rtm", .vendor = kIntel, .model = 85, .stepping = 4, .model_id = "Intel Xeon Processor (Skylake, IBRS, no TSX)"},
    {.name = "Skylake-Server-v5", .parent = "Skylake-Server", .features = "spec-ctrl xsaves -clflushopt -hle -rtm", .vendor = kIntel, .model = 85, .stepping = 4, .model_id = "Intel Xeon Processor (Skylake, IBRS, no TSX)"},
    {.name = "Cascadelake-Server", .parent = "Skylake-Server", .features = "avx512vnni spec-ctrl ssbd", .vendor = kIntel, .model = 85, .stepping = 6, .model_id = "Intel Xeon Processor (Cascadelake)"},
    {.name = "Cascadelake-Server-v2", .parent = "Cascadelake-Server", .features = "arch-capabilities", .vendor = kIntel, .model = 85, .stepping = 6, .model_id = "Intel Xeon Processor (Cascadelake)"},
    {.name = "Cascadelake-Server-noTSX", .parent = "Cascadelake-Server", .features = "arch-capabilities -hle -rtm", .vendor = kIntel, .model = 85, .stepping = 6, .model_id = "Intel Xeon Processor (Cascadelake)"},
    {.name = "Cascadelake-Server-v5", .parent = "Cascadelake-Server", .features = "arch-capabilities xsaves -hle -rtm", .vendor = kIntel, .model = 85, .stepping = 6, .model_id = "Intel Xeon Processor (Cascadelake)"},
    {.name = "Cooperlake", .parent = "Cascadelake-Server-v2", .features = "avx512-bf16 stibp", .vendor = kIntel, .model = 85, .stepping = 10, .model_id = "Intel Xeon Processor (Cooperlake)"},
    {.name = "Cooperlake-v2", .parent = "Cooperlake", .features = "xsaves", .vendor = kIntel, .model = 85, .stepping = 10, .model_id = "Intel Xeon Processor (Cooperlake)"},
    {.name = "Icelake-Server", .parent = "Cascadelake-Server", .features = "avx512-vpopcntdq avx512bitalg avx512vbmi avx512vbmi2 gfni la57 umip vaes vpclmulqdq wbnoinvd", .vendor = kIntel, .model = 134, .stepping = 0, .model_id = "Intel Xeon Processor (Icelake)"},
    {.name = "Icelake-Server-noTSX", .parent = "Icelake-Server", .features = "-hle -rtm", .vendor = kIntel, .model = 134, .stepping = 0, .model_id = "Intel Xeon Processor (Icelake)"},
    {.name = "Icelake-Server-v3", .parent = "Icelake-Server", .features = "arch-capabilities -hle -rtm", .vendor = kIntel, .model = 134, .stepping = 0, .model_id = "Intel Xeon Processor (Icelake)"},
    {.name = "Icelake-Server-v4", .parent = "Icelake-Server", .features = "arch-capabilities avx512ifma fsrm rdpid sha-ni -hle -rtm", .vendor = kIntel, .model = 106, .stepping = 0, .model_id = "Intel Xeon Processor (Icelake)"},
    {.name = "Icelake-Server-v5", .parent = "Icelake-Server-v4", .features = "xsaves", .vendor = kIntel, .model = 106, .stepping = 0, .model_id = "Intel Xeon Processor (Icelake)"},
    {.name = "EPYC-IBPB", .parent = "EPYC", .features = "ibpb", .vendor = kAmd, .family = 23, .model = 1, .stepping = 2, .xlevel = 0x8000001e, .model_id = "AMD EPYC Processor (with IBPB)"},
    {.name = "EPYC-v3", .parent = "EPYC", .features = "clzero ibpb perfctr-core xsaveerptr xsaves", .vendor = kAmd, .family = 23, .model = 1, .stepping = 2, .xlevel = 0x8000001e, .model_id = "AMD EPYC Processor"},
    {.name = "EPYC-Rome-v2", .parent = "EPYC-Rome", .features = "amd-ssbd ibrs", .vendor = kAmd, .family = 23, .model = 49, .stepping = 0, .xlevel = 0x8000001e, .model_id = "AMD EPYC-Rome Processor"},
    {.name = "EPYC-Milan", .parent = "EPYC-Rome-v2", .features = "erms fsrm invpcid pcid pku", .vendor = kAmd, .family = 25, .model = 1, .stepping = 1, .xlevel = 0x8000001e, .model_id = "AMD EPYC-Milan Processor"},
    {.name = "Dhyana", .parent = "EPYC-IBPB", .features = "-aes -pclmulqdq -sha-ni", .vendor = kHygon, .family = 24, .model = 0, .stepping = 1, .xlevel = 0x8000001e, .model_id = "Hygon Dhyana Processor"},
    {.name = "Dhyana-v2", .parent = "Dhyana", .features = "xsaves", .vendor = kHygon, .family = 24, .model = 0, .stepping = 1, .xlevel = 0x8000001e, .model_id = "Hygon Dhyana Processor"},
};

/// Versions that are another model's; a first version is always the model without a number.
constexpr std::pair<std::string_view, std::string_view> kVersions[] = {
    {"Nehalem-v2", "Nehalem-IBRS"}, {"Westmere-v2", "Westmere-IBRS"}, {"SandyBridge-v2", "SandyBridge-IBRS"}, {"IvyBridge-v2", "IvyBridge-IBRS"},
    {"Haswell-v2", "Haswell-noTSX"}, {"Haswell-v3", "Haswell-IBRS"}, {"Haswell-v4", "Haswell-noTSX-IBRS"},
    {"Broadwell-v2", "Broadwell-noTSX"}, {"Broadwell-v3", "Broadwell-IBRS"}, {"Broadwell-v4", "Broadwell-noTSX-IBRS"},
    {"Skylake-Client-v2", "Skylake-Client-IBRS"}, {"Skylake-Client-v3", "Skylake-Client-noTSX-IBRS"},
    {"Skylake-Server-v2", "Skylake-Server-IBRS"}, {"Skylake-Server-v3", "Skylake-Server-noTSX-IBRS"}, {"Skylake-Server-v4", "Skylake-Server-noTSX-IBRS"},
    {"Cascadelake-Server-v3", "Cascadelake-Server-noTSX"}, {"Cascadelake-Server-v4", "Cascadelake-Server-noTSX"},
    {"Icelake-Server-v2", "Icelake-Server-noTSX"}, {"Icelake-Server-v6", "Icelake-Server-v5"}, {"EPYC-v2", "EPYC-IBPB"},
};
// clang-format on

/// Not those that are themselves a variant, or a level of the psABI.
bool has_versions(const CpuModel& model) {
  constexpr std::string_view kVariants[] = {"x86-64", "-v", "-IBRS", "-IBPB", "-noTSX"};
  return model.kind == Kind::Listed && model.name != "base" &&
         std::ranges::none_of(kVariants, [&](std::string_view part) { return model.name.contains(part); });
}

}  // namespace

std::span<const CpuModel> all_models() { return kModels; }

const CpuModel* find_model(std::string_view name) {
  auto version = std::ranges::find(kVersions, name, [](const auto& v) { return v.first; });
  if (version != std::end(kVersions)) name = version->second;
  else if (name.ends_with("-v1")) name.remove_suffix(3);
  auto model = std::ranges::find(kModels, name, &CpuModel::name);
  return model == std::end(kModels) ? nullptr : &*model;
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const CpuModel& model : kModels) {
    names.emplace_back(model.name);
    if (has_versions(model)) names.push_back(names.back() + "-v1");
  }
  for (const auto& version : kVersions) names.emplace_back(version.first);
  std::ranges::sort(names);
  return names;
}

FeatureSet listed_features(const CpuModel& model) {
  FeatureSet set;
  if (const CpuModel* parent = find_model(model.parent)) set = listed_features(*parent);
  for (std::string_view rest = model.features; !rest.empty();) {
    size_t end = std::min(rest.find(' '), rest.size());
    const bool on = !rest.starts_with('-');
    const Feature* feature = find_feature(rest.substr(on ? 0 : 1, on ? end : end - 1));
    CHECK(feature != nullptr);  // the table above names only features of the other table
    set.set(*feature, on);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return set;
}

}  // namespace atl::cpu
