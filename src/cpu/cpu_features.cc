#include "cpu/cpu_features.h"

#include <algorithm>

namespace atl::cpu {
namespace {

using enum FeatureWord;

constexpr WordPlace kPlaces[kFeatureWords] = {
    {0x1, 0, false, &CpuidEntry::edx, "01H:EDX"},
    {0x1, 0, false, &CpuidEntry::ecx, "01H:ECX"},
    {0x6, 0, false, &CpuidEntry::eax, "06H:EAX"},
    {0x7, 0, true, &CpuidEntry::ebx, "07H:EBX"},
    {0x7, 0, true, &CpuidEntry::ecx, "07H:ECX"},
    {0x7, 0, true, &CpuidEntry::edx, "07H:EDX"},
    {0x7, 1, true, &CpuidEntry::eax, "07H.1:EAX"},
    {0xd, 1, true, &CpuidEntry::eax, "0DH.1:EAX"},
    {0x40000001, 0, false, &CpuidEntry::eax, "40000001H:EAX"},
    {0x80000001, 0, false, &CpuidEntry::edx, "80000001H:EDX"},
    {0x80000001, 0, false, &CpuidEntry::ecx, "80000001H:ECX"},
    {0x80000007, 0, false, &CpuidEntry::edx, "80000007H:EDX"},
    {0x80000008, 0, false, &CpuidEntry::ebx, "80000008H:EBX"},
    {0x8000000a, 0, false, &CpuidEntry::edx, "8000000AH:EDX"},
};

constexpr Feature kFeatures[] = {
    {"fpu", k1Edx, 0}, {"vme", k1Edx, 1}, {"de", k1Edx, 2}, {"pse", k1Edx, 3}, {"tsc", k1Edx, 4}, {"msr", k1Edx, 5},
    {"pae", k1Edx, 6}, {"mce", k1Edx, 7}, {"cx8", k1Edx, 8}, {"apic", k1Edx, 9}, {"sep", k1Edx, 11}, {"mtrr", k1Edx, 12},
    {"pge", k1Edx, 13}, {"mca", k1Edx, 14}, {"cmov", k1Edx, 15}, {"pat", k1Edx, 16}, {"pse36", k1Edx, 17},
    {"pn", k1Edx, 18}, {"clflush", k1Edx, 19}, {"ds", k1Edx, 21}, {"acpi", k1Edx, 22}, {"mmx", k1Edx, 23},
    {"fxsr", k1Edx, 24}, {"sse", k1Edx, 25}, {"sse2", k1Edx, 26}, {"ss", k1Edx, 27}, {"ht", k1Edx, 28}, {"tm", k1Edx, 29},
    {"ia64", k1Edx, 30}, {"pbe", k1Edx, 31},

    {"pni", k1Ecx, 0}, {"pclmulqdq", k1Ecx, 1}, {"dtes64", k1Ecx, 2}, {"monitor", k1Ecx, 3}, {"ds-cpl", k1Ecx, 4},
    {"vmx", k1Ecx, 5}, {"smx", k1Ecx, 6}, {"est", k1Ecx, 7}, {"tm2", k1Ecx, 8}, {"ssse3", k1Ecx, 9}, {"cid", k1Ecx, 10},
    {"fma", k1Ecx, 12}, {"cx16", k1Ecx, 13}, {"xtpr", k1Ecx, 14}, {"pdcm", k1Ecx, 15}, {"pcid", k1Ecx, 17},
    {"dca", k1Ecx, 18}, {"sse4.1", k1Ecx, 19}, {"sse4.2", k1Ecx, 20}, {"x2apic", k1Ecx, 21}, {"movbe", k1Ecx, 22},
    {"popcnt", k1Ecx, 23}, {"tsc-deadline", k1Ecx, 24}, {"aes", k1Ecx, 25}, {"xsave", k1Ecx, 26}, {"avx", k1Ecx, 28},
    {"f16c", k1Ecx, 29}, {"rdrand", k1Ecx, 30}, {"hypervisor", k1Ecx, 31},

    {"arat", k6Eax, 2},

    {"fsgsbase", k7Ebx, 0}, {"tsc-adjust", k7Ebx, 1}, {"sgx", k7Ebx, 2}, {"bmi1", k7Ebx, 3}, {"hle", k7Ebx, 4},
    {"avx2", k7Ebx, 5}, {"fdp-excptn-only", k7Ebx, 6}, {"smep", k7Ebx, 7}, {"bmi2", k7Ebx, 8}, {"erms", k7Ebx, 9}, {"invpcid", k7Ebx, 10},
    {"rtm", k7Ebx, 11}, {"zero-fcs-fds", k7Ebx, 13}, {"mpx", k7Ebx, 14}, {"avx512f", k7Ebx, 16}, {"avx512dq", k7Ebx, 17}, {"rdseed", k7Ebx, 18},
    {"adx", k7Ebx, 19}, {"smap", k7Ebx, 20}, {"avx512ifma", k7Ebx, 21}, {"pcommit", k7Ebx, 22},
    {"clflushopt", k7Ebx, 23}, {"clwb", k7Ebx, 24}, {"intel-pt", k7Ebx, 25}, {"avx512pf", k7Ebx, 26},
    {"avx512er", k7Ebx, 27}, {"avx512cd", k7Ebx, 28}, {"sha-ni", k7Ebx, 29}, {"avx512bw", k7Ebx, 30},
    {"avx512vl", k7Ebx, 31},

    {"avx512vbmi", k7Ecx, 1}, {"umip", k7Ecx, 2}, {"pku", k7Ecx, 3}, {"waitpkg", k7Ecx, 5}, {"avx512vbmi2", k7Ecx, 6},
    {"gfni", k7Ecx, 8}, {"vaes", k7Ecx, 9}, {"vpclmulqdq", k7Ecx, 10}, {"avx512vnni", k7Ecx, 11},
    {"avx512bitalg", k7Ecx, 12}, {"avx512-vpopcntdq", k7Ecx, 14}, {"la57", k7Ecx, 16}, {"rdpid", k7Ecx, 22},
    {"bus-lock-detect", k7Ecx, 24}, {"cldemote", k7Ecx, 25}, {"movdiri", k7Ecx, 27}, {"movdir64b", k7Ecx, 28},
    {"sgxlc", k7Ecx, 30}, {"pks", k7Ecx, 31},

    {"avx512-4vnniw", k7Edx, 2}, {"avx512-4fmaps", k7Edx, 3}, {"fsrm", k7Edx, 4}, {"avx512-vp2intersect", k7Edx, 8},
    {"md-clear", k7Edx, 10}, {"serialize", k7Edx, 14}, {"tsx-ldtrk", k7Edx, 16}, {"arch-lbr", k7Edx, 19},
    {"amx-bf16", k7Edx, 22}, {"avx512-fp16", k7Edx, 23}, {"amx-tile", k7Edx, 24}, {"amx-int8", k7Edx, 25},
    {"spec-ctrl", k7Edx, 26}, {"stibp", k7Edx, 27}, {"flush-l1d", k7Edx, 28}, {"arch-capabilities", k7Edx, 29},
    {"core-capability", k7Edx, 30}, {"ssbd", k7Edx, 31},

    {"avx-vnni", k7_1Eax, 4}, {"avx512-bf16", k7_1Eax, 5}, {"cmpccxadd", k7_1Eax, 7}, {"fzrm", k7_1Eax, 10},
    {"fsrs", k7_1Eax, 11}, {"fsrc", k7_1Eax, 12}, {"avx-ifma", k7_1Eax, 23},

    {"xsaveopt", kDEax, 0}, {"xsavec", kDEax, 1}, {"xgetbv1", kDEax, 2}, {"xsaves", kDEax, 3}, {"xfd", kDEax, 4},

    {"kvmclock", kKvmEax, 3}, {"kvm-nopiodelay", kKvmEax, 1}, {"kvm-mmu", kKvmEax, 2}, {"kvm-asyncpf", kKvmEax, 4},
    {"kvm-steal-time", kKvmEax, 5}, {"kvm-pv-eoi", kKvmEax, 6}, {"kvm-pv-unhalt", kKvmEax, 7},
    {"kvm-pv-tlb-flush", kKvmEax, 9}, {"kvm-pv-ipi", kKvmEax, 11}, {"kvm-poll-control", kKvmEax, 12},
    {"kvm-pv-sched-yield", kKvmEax, 13}, {"kvm-asyncpf-int", kKvmEax, 14}, {"kvm-msi-ext-dest-id", kKvmEax, 15},
    {"kvmclock-stable-bit", kKvmEax, 24},

    {"syscall", kExt1Edx, 11}, {"nx", kExt1Edx, 20}, {"mmxext", kExt1Edx, 22}, {"fxsr-opt", kExt1Edx, 25},
    {"pdpe1gb", kExt1Edx, 26}, {"rdtscp", kExt1Edx, 27}, {"lm", kExt1Edx, 29}, {"3dnowext", kExt1Edx, 30},
    {"3dnow", kExt1Edx, 31},

    {"lahf-lm", kExt1Ecx, 0}, {"cmp-legacy", kExt1Ecx, 1}, {"svm", kExt1Ecx, 2}, {"extapic", kExt1Ecx, 3},
    {"cr8legacy", kExt1Ecx, 4}, {"abm", kExt1Ecx, 5}, {"sse4a", kExt1Ecx, 6}, {"misalignsse", kExt1Ecx, 7},
    {"3dnowprefetch", kExt1Ecx, 8}, {"osvw", kExt1Ecx, 9}, {"ibs", kExt1Ecx, 10}, {"xop", kExt1Ecx, 11},
    {"skinit", kExt1Ecx, 12}, {"wdt", kExt1Ecx, 13}, {"lwp", kExt1Ecx, 15}, {"fma4", kExt1Ecx, 16}, {"tce", kExt1Ecx, 17},
    {"nodeid-msr", kExt1Ecx, 19}, {"tbm", kExt1Ecx, 21}, {"topoext", kExt1Ecx, 22}, {"perfctr-core", kExt1Ecx, 23},
    {"perfctr-nb", kExt1Ecx, 24},

    {"invtsc", kExt7Edx, 8},

    {"clzero", kExt8Ebx, 0}, {"xsaveerptr", kExt8Ebx, 2}, {"wbnoinvd", kExt8Ebx, 9}, {"ibpb", kExt8Ebx, 12},
    {"ibrs", kExt8Ebx, 14}, {"amd-stibp", kExt8Ebx, 15}, {"amd-ssbd", kExt8Ebx, 24}, {"virt-ssbd", kExt8Ebx, 25},
    {"amd-no-ssb", kExt8Ebx, 26},

    {"npt", kExtAEdx, 0}, {"lbrv", kExtAEdx, 1}, {"svm-lock", kExtAEdx, 2}, {"nrip-save", kExtAEdx, 3},
    {"tsc-scale", kExtAEdx, 4}, {"vmcb-clean", kExtAEdx, 5}, {"flushbyasid", kExtAEdx, 6}, {"decodeassists", kExtAEdx, 7},
    {"pause-filter", kExtAEdx, 10}, {"pfthreshold", kExtAEdx, 12}, {"avic", kExtAEdx, 13},
    {"v-vmsave-vmload", kExtAEdx, 15}, {"vgif", kExtAEdx, 16},
};

struct Alias {
  std::string_view name, meant;
};
constexpr Alias kAliases[] = {
    {"sse3", "pni"}, {"sse4-1", "sse4.1"}, {"sse4-2", "sse4.2"}, {"pclmuldq", "pclmulqdq"}, {"xd", "nx"}, {"i64", "lm"},
    {"ffxsr", "fxsr-opt"}, {"lzcnt", "abm"}, {"lahf-sahf", "lahf-lm"},
};

}  // namespace

const WordPlace& place_of(FeatureWord word) { return kPlaces[static_cast<unsigned>(word)]; }

std::span<const Feature> all_features() { return kFeatures; }

const Feature* find_feature(std::string_view name) {
  std::string dashed(name);
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  if (auto alias = std::ranges::find(kAliases, dashed, &Alias::name); alias != std::end(kAliases)) dashed = alias->meant;
  auto feature = std::ranges::find(kFeatures, dashed, &Feature::name);
  return feature == std::end(kFeatures) ? nullptr : &*feature;
}

FeatureSet::FeatureSet(const CpuidTable& table) {
  for (unsigned i = 0; i < kFeatureWords; ++i) {
    const CpuidEntry* entry = table.find(kPlaces[i].leaf, kPlaces[i].subleaf);
    if (entry) words_[i] = entry->*kPlaces[i].reg;
  }
}

bool FeatureSet::has(std::string_view name) const {
  const Feature* feature = find_feature(name);
  return feature && has(*feature);
}

void FeatureSet::set(const Feature& feature, bool on) {
  u32 bit = u32{1} << feature.bit;
  u32& value = word(feature.word);
  value = on ? value | bit : value & ~bit;
}

}  // namespace atl::cpu
