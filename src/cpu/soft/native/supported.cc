#include "cpu/soft/native/supported.h"

#include <string_view>

#include "base/check.h"
#include "cpu/cpu_features.h"
#include "cpu/soft/native/image.h"

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
    "bmi2", "adx", "abm", "sha-ni", "gfni", "vaes", "vpclmulqdq", "rdrand", "rdseed", "xsaveopt", "xsavec", "xgetbv1", "mmxext",
};

/// The same with AVX-512 (host_has_avx512()).
constexpr std::string_view kWide[] = {
    "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512vnni", "avx512bitalg",
    "avx512-vpopcntdq", "avx512-bf16",
};

FeatureSet supported_features() {
  FeatureSet host(host_cpuid()), set;
  for (std::string_view name : kInterpreted) set.set(*find_feature(name), true);
  for (std::string_view name : kNative) {
    const Feature* feature = find_feature(name);
    CHECK(feature != nullptr);  // a name of ours
    set.set(*feature, host.has(*feature));
  }
  for (std::string_view name : kWide) set.set(*find_feature(name), host_has_avx512() && host.has(name));
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

/// x87 and SSE in the legacy region, the others where native/image.h has them, which is where Intel's processors do.
void add_xsave(CpuidTable& table, const FeatureSet& features) {
  if (!features.has("xsave")) return;
  struct Component {
    u8 bit;
    std::string_view feature;
    u32 size, offset;
  };
  constexpr Component kComponents[] = {{2, "avx", 256, image::kYmmHigh},
                                       {5, "avx512f", 64, image::kOpmask},
                                       {6, "avx512f", 512, image::kZmmHigh},
                                       {7, "avx512f", 1024, image::kZmm16}};
  u32 components = 3, size = image::kYmmHigh;
  for (const Component& c : kComponents) {
    if (!features.has(c.feature)) continue;
    components |= 1u << c.bit;
    size = c.offset + c.size;
    table.set({.leaf = 0xd, .subleaf = c.bit, .has_subleaf = true, .eax = c.size, .ebx = c.offset});
  }
  table.set({.leaf = 0xd, .subleaf = 0, .has_subleaf = true, .eax = components, .ebx = size, .ecx = size});
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

bool host_has_avx512() {
  static const bool has = [] {
    FeatureSet host(host_cpuid());
    for (std::string_view name : {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
      if (!host.has(name)) return false;
    constexpr u32 kWideState = 0xe6;
    u32 low = 0, high = 0;
    asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));  // there with AVX
    return (low & kWideState) == kWideState;
  }();
  return has;
}

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
