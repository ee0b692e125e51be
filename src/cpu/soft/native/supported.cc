#include "cpu/soft/native/supported.h"

#include <string_view>

#include "base/check.h"
#include "cpu/cpu_features.h"

namespace atl::soft {
namespace {

using namespace cpu;

/// Interpreted wholly: there whatever the host is.
constexpr std::string_view kInterpreted[] = {
    "fpu", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "sep", "mtrr", "pge", "mca", "cmov", "pat", "pse36",
    "clflush", "mmx", "fxsr", "sse", "sse2", "cx16", "pcid", "x2apic", "tsc-deadline", "hypervisor", "arat", "fsgsbase",
    "tsc-adjust", "smep", "smap", "umip", "erms", "fsrm", "invpcid", "clflushopt", "clwb", "rdpid", "syscall", "nx",
    "zero-fcs-fds", "pdpe1gb", "rdtscp", "lm", "lahf-lm", "3dnowprefetch", "invtsc", "cr8legacy",
};

/// Executed by the host's own instructions, so the host must have them.
constexpr std::string_view kNative[] = {
    "pni", "ssse3", "sse4.1", "sse4.2", "popcnt", "movbe", "aes", "pclmulqdq", "fma", "f16c", "avx", "avx2", "xsave", "bmi1",
    "bmi2", "adx", "abm", "sha-ni", "rdrand", "rdseed", "xsaveopt", "xsavec", "xgetbv1", "mmxext",
};

FeatureSet supported_features() {
  FeatureSet host(host_cpuid()), set;
  for (std::string_view name : kInterpreted) set.set(*find_feature(name), true);
  for (std::string_view name : kNative) {
    const Feature* feature = find_feature(name);
    CHECK(feature != nullptr);  // a name of ours
    set.set(*feature, host.has(*feature));
  }
  return set;
}

void add_words(CpuidTable& table, const FeatureSet& features) {
  for (unsigned i = 0; i < kFeatureWords; ++i) {
    auto word = static_cast<FeatureWord>(i);
    const WordPlace& place = place_of(word);
    if (!features.word(word)) continue;
    const CpuidEntry* found = table.find(place.leaf, place.subleaf);
    CpuidEntry entry = found ? *found : CpuidEntry{.leaf = place.leaf, .subleaf = place.subleaf, .has_subleaf = place.has_subleaf};
    entry.*place.reg = features.word(word);
    table.set(entry);
  }
}

/// x87 and SSE in the legacy region, AVX at the standard offset.
void add_xsave(CpuidTable& table, const FeatureSet& features) {
  if (!features.has("xsave")) return;
  bool avx = features.has("avx");
  u32 size = avx ? 832 : 576;
  table.set({.leaf = 0xd, .subleaf = 0, .has_subleaf = true, .eax = avx ? 7u : 3u, .ebx = size, .ecx = size});
  if (avx) table.set({.leaf = 0xd, .subleaf = 2, .has_subleaf = true, .eax = 256, .ebx = 576});
}

/// The TSC's frequency for those who ask leaf 0x15 (crystal times ratio), 0x16 (MHz) or the hypervisor's timing leaf. The
/// signature is the one that guests know a software CPU by.
void add_platform(CpuidTable& table) {
  table.set({.leaf = 0x15, .eax = 1, .ebx = 1, .ecx = kTscKhz * 1000});
  table.set({.leaf = 0x16, .eax = kTscKhz / 1000, .ebx = kTscKhz / 1000, .ecx = 100});
  table.set({.leaf = 0x40000000, .eax = 0x40000010, .ebx = 0x54474354, .ecx = 0x43544743, .edx = 0x47435447});
  table.set({.leaf = 0x40000010, .eax = kTscKhz, .ebx = kTscKhz});
}

}  // namespace

cpu::CpuidTable soft_supported_cpuid() {
  FeatureSet features = supported_features();
  CpuidTable table;
  table.set({.leaf = 0, .eax = 0x16});
  table.set({.leaf = 0x80000000, .eax = 0x8000000a});
  table.set({.leaf = 0x80000008, .eax = 48u << 8 | 46});
  add_xsave(table, features);
  add_words(table, features);
  add_platform(table);
  return table;
}

}  // namespace atl::soft
