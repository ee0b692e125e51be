#include "cpu/cpuid.h"

#include <gtest/gtest.h>

#include "cpu/cpu_features.h"
#include "cpu/cpu_models.h"
#include "cpu/state.h"

namespace atl::cpu {
namespace {

constexpr std::string_view kOffered[] = {
    "fpu", "tsc", "msr", "pae", "cx8", "apic", "cmov", "clflush", "mmx", "fxsr", "sse", "sse2", "pni", "ssse3", "sse4.1",
    "sse4.2", "cx16", "popcnt", "aes", "xsave", "avx", "avx2", "bmi1", "bmi2", "fma", "f16c", "movbe", "abm", "lahf-lm",
    "syscall", "nx", "lm", "x2apic", "invtsc",
};

CpuidLimits limits(std::string accelerator = "soft") {
  CpuidTable table;
  FeatureSet set;
  for (std::string_view name : kOffered) set.set(*find_feature(name), true);
  for (const Feature& f : all_features()) {
    const WordPlace& place = place_of(f.word);
    const CpuidEntry* found = table.find(place.leaf, place.subleaf);
    CpuidEntry e = found ? *found : CpuidEntry{.leaf = place.leaf, .subleaf = place.subleaf, .has_subleaf = place.has_subleaf};
    e.*place.reg = set.word(f.word);
    table.set(e);
  }
  table.set({.leaf = 0xd, .subleaf = 0, .has_subleaf = true, .eax = 7, .ebx = 832, .ecx = 832});
  table.set({.leaf = 0xd, .subleaf = 2, .has_subleaf = true, .eax = 256, .ebx = 576});
  table.set({.leaf = 0x15, .eax = 1, .ebx = 1, .ecx = 1000000000});
  table.set({.leaf = 0x16, .eax = 1000});
  table.set({.leaf = 0x40000000, .eax = 0x40000010});
  table.set({.leaf = 0x40000010, .eax = 1000000});
  return {.supported = table, .accelerator = std::move(accelerator)};
}

CpuidTable one_of(const CpuRequest& request, const CpuidLimits& l = limits()) {
  auto tables = build_cpuid(request, l, {});
  EXPECT_TRUE(tables.has_value()) << (tables ? "" : tables.error().text());
  return tables ? tables->front() : CpuidTable{};
}

std::string error_of(const CpuRequest& request) {
  auto tables = build_cpuid(request, limits(), {});
  return tables ? "" : tables.error().text();
}

TEST(CpuModels, EveryNameInTheTablesIsKnown) {
  for (const CpuModel& model : all_models()) {
    EXPECT_TRUE(model.parent.empty() || find_model(model.parent)) << model.name;
    EXPECT_EQ(model.vendor.size(), 12u) << model.name;
    EXPECT_LE(model.model_id.size(), 48u) << model.name;
    listed_features(model);  // checks each feature's name
  }
}

TEST(CpuModels, VersionsAreFoundUnderTheirNumbers) {
  EXPECT_EQ(find_model("Haswell-v4"), find_model("Haswell-noTSX-IBRS"));
  EXPECT_EQ(find_model("EPYC-v1"), find_model("EPYC"));
  EXPECT_EQ(find_model("EPYC-v9"), nullptr);
  for (const std::string& name : model_names()) EXPECT_NE(find_model(name), nullptr) << name;
}

TEST(CpuModels, AFeatureCanBeTakenAwayFromTheParents) {
  EXPECT_TRUE(listed_features(*find_model("Skylake-Server")).has("clflushopt"));
  EXPECT_FALSE(listed_features(*find_model("Skylake-Server-IBRS")).has("clflushopt"));
}

TEST(CpuFeatures, NoBitHasTwoNames) {
  for (const Feature& a : all_features())
    for (const Feature& b : all_features())
      EXPECT_TRUE(&a == &b || a.word != b.word || a.bit != b.bit) << a.name << " " << b.name;
}

TEST(CpuFeatures, OtherSpellingsAreAccepted) {
  EXPECT_EQ(find_feature("sse4_1"), find_feature("sse4.1"));
  EXPECT_EQ(find_feature("lahf_lm"), find_feature("lahf-lm"));
  EXPECT_EQ(find_feature("xd"), find_feature("nx"));
  EXPECT_EQ(find_feature("avx3"), nullptr);
}

TEST(Cpuid, UnknownModelIsNamed) { EXPECT_NE(error_of({.model = "i486sx"}).find("'i486sx'"), std::string::npos); }

TEST(Cpuid, UnknownFeatureIsNamed) {
  EXPECT_NE(error_of({.features = {{"avx3", true}}}).find("x86_64-cpu.avx3' not found"), std::string::npos);
  EXPECT_NE(error_of({.properties = {{"colour", "red"}}}).find("x86_64-cpu.colour' not found"), std::string::npos);
}

TEST(Cpuid, BadValueIsNamed) {
  EXPECT_NE(error_of({.properties = {{"level", "many"}}}).find("'many'"), std::string::npos);
  EXPECT_NE(error_of({.properties = {{"avx", "perhaps"}}}).find("'perhaps'"), std::string::npos);
  EXPECT_NE(error_of({.properties = {{"vendor", "me"}}}).find("vendor"), std::string::npos);
}

TEST(Cpuid, MaxHasWhatTheAcceleratorOffers) {
  CpuidTable table = one_of({.model = "max"});
  for (std::string_view name : kOffered) EXPECT_TRUE(table.has(name)) << name;
  EXPECT_TRUE(table.has("hypervisor"));
  EXPECT_FALSE(table.has("avx512f"));
  EXPECT_EQ(table.query(0x15, 0).ecx, 1000000000u);
  EXPECT_EQ(table.query(0x40000010, 0).eax, 1000000u);
}

TEST(Cpuid, SwitchedOffFeatureTakesItsDependentsAlong) {
  CpuidTable table = one_of({.model = "max", .features = {{"xsave", false}}});
  EXPECT_FALSE(table.has("xsave"));
  EXPECT_FALSE(table.has("avx2"));
  EXPECT_FALSE(table.has("fma"));
  EXPECT_EQ(table.query(0xd, 0).eax, 0u);
}

TEST(Cpuid, FeatureTheAcceleratorLacksIsDropped) {
  EXPECT_FALSE(one_of({.model = "qemu64", .features = {{"avx512f", true}}}).has("avx512f"));
}

TEST(Cpuid, EnforceRefusesWhatTheAcceleratorLacks) {
  std::string text = error_of({.features = {{"avx512f", true}}, .properties = {{"enforce", "on"}}});
  EXPECT_NE(text.find("07H:EBX.avx512f [bit 16]"), std::string::npos) << text;
}

TEST(Cpuid, LaterRequestWins) {
  EXPECT_FALSE(one_of({.features = {{"avx", true}, {"avx", false}}}).has("avx"));
  EXPECT_TRUE(one_of({.features = {{"avx", false}, {"avx", true}}}).has("avx"));
}

TEST(Cpuid, XsaveSizeCoversTheComponents) {
  EXPECT_EQ(one_of({.model = "max"}).query(0xd, 0).ecx, 832u);
  EXPECT_EQ(one_of({.model = "max", .features = {{"avx", false}}}).query(0xd, 0).ecx, 576u);
}

TEST(Cpuid, SignatureHasExtendedFamilyAndModel) {
  CpuidTable table = one_of({.model = "EPYC", .properties = {{"check", "off"}}});
  EXPECT_EQ(table.query(1, 0).eax, 0x00800f12u);
}

TEST(Cpuid, AmdMirrorsTheFirstLeaf) {
  u32 amd = one_of({.model = "x86-64-v2"}).query(0x80000001, 0).edx;
  EXPECT_TRUE(amd & 1);
  u32 intel = one_of({.model = "Nehalem"}).query(0x80000001, 0).edx;
  EXPECT_FALSE(intel & 1);
  EXPECT_TRUE(intel & 1u << 29);
}

TEST(Cpuid, LeafAboveTheMaximumAnswersLikeTheHighestBasicOne) {
  CpuidTable table({{.leaf = 0, .eax = 2}, {.leaf = 2, .eax = 7}, {.leaf = 0x80000000, .eax = 0x80000001}});
  EXPECT_EQ(table.query(9, 0).eax, 7u);
  EXPECT_EQ(table.query(0x80000009, 0).eax, 7u);
  EXPECT_EQ(table.query(1, 0).eax, 0u);
}

TEST(Cpuid, ModelIdAndVendorAreReadBack) {
  CpuidTable table = one_of({.properties = {{"model-id", "Abacus"}, {"vendor", "GenuineIntel"}}});
  EXPECT_EQ(table.query(0x80000002, 0).eax, 0x63616241u);
  EXPECT_EQ(table.query(0, 0).ebx, 0x756e6547u);
}

TEST(CpuidTopology, EachCpuHasItsApicId) {
  auto tables = build_cpuid({}, limits(), {.cpus = 4, .sockets = 1, .cores = 2, .threads = 2, .max_cpus = 4});
  ASSERT_TRUE(tables.has_value());
  ASSERT_EQ(tables->size(), 4u);
  EXPECT_EQ((*tables)[3].query(1, 0).ebx >> 24, 3u);
  EXPECT_EQ((*tables)[3].query(1, 0).ebx >> 16 & 255, 4u);
  EXPECT_EQ((*tables)[3].query(0xb, 0).edx, 3u);
  EXPECT_EQ((*tables)[3].query(0xb, 0).eax, 1u);  // two threads: one bit
  EXPECT_EQ((*tables)[3].query(0xb, 1).eax, 2u);
  EXPECT_TRUE((*tables)[0].has("ht"));
}

TEST(CpuidTopology, IntelCachesDescribeSharing) {
  auto tables = build_cpuid({.model = "Nehalem"}, limits(), {.cpus = 4, .sockets = 1, .cores = 4, .threads = 1});
  ASSERT_TRUE(tables.has_value());
  CpuidEntry l3 = tables->front().query(4, 3);
  EXPECT_EQ(l3.eax & 31, 3u);
  EXPECT_EQ(l3.eax >> 14 & 0xfff, 3u);
  EXPECT_EQ(tables->front().query(4, 4).eax, 0u);
}

TEST(HostCpuid, HasTheBasicsOfX86_64) {
  CpuidTable host = host_cpuid();
  EXPECT_TRUE(host.has("sse2"));
  EXPECT_TRUE(host.has("lm"));
}

TEST(ResetState, StartsAtTheResetVector) {
  VcpuState state = reset_state(true);
  EXPECT_EQ(state.seg[kCs].base + state.rip, 0xfffffff0u);
  EXPECT_EQ(state.apic_base, 0xfee00900u);
  EXPECT_EQ(reset_state(false).mp_state, MpState::Uninitialized);
}

}  // namespace
}  // namespace atl::cpu
