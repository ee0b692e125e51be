#include "cpu/soft/decode/features.h"

#include <string_view>

namespace atl::soft {

namespace {

struct Name {
  Feature feature;
  std::string_view name;  // as CpuidTable::has() takes it
};

constexpr Name kNames[] = {
    {Feature::Adx, "adx"},         {Feature::Aes, "aes"},           {Feature::Avx, "avx"},
    {Feature::Avx2, "avx2"},       {Feature::Bmi1, "bmi1"},         {Feature::Bmi2, "bmi2"},
    {Feature::Cldemote, "cldemote"}, {Feature::Clflush, "clflush"}, {Feature::Clflushopt, "clflushopt"},
    {Feature::Clwb, "clwb"},       {Feature::Cmov, "cmov"},         {Feature::Cx8, "cx8"},
    {Feature::Cx16, "cx16"},       {Feature::F16c, "f16c"},         {Feature::Fma, "fma"},
    {Feature::Fpu, "fpu"},         {Feature::Fsgsbase, "fsgsbase"}, {Feature::Fxsr, "fxsr"},
    {Feature::Invpcid, "invpcid"}, {Feature::LahfLm, "lahf-lm"},    {Feature::Abm, "abm"},
    {Feature::Lm, "lm"},           {Feature::Mmx, "mmx"},           {Feature::Monitor, "monitor"},
    {Feature::Movbe, "movbe"},     {Feature::Msr, "msr"},           {Feature::Nx, "nx"},
    {Feature::Pclmulqdq, "pclmulqdq"}, {Feature::Popcnt, "popcnt"}, {Feature::Prefetchw, "3dnowprefetch"},
    {Feature::Rdpid, "rdpid"},     {Feature::Rdrand, "rdrand"},     {Feature::Rdseed, "rdseed"},
    {Feature::Rdtscp, "rdtscp"},   {Feature::Sep, "sep"},           {Feature::Sha, "sha-ni"},
    {Feature::Smap, "smap"},       {Feature::Sse, "sse"},           {Feature::Sse2, "sse2"},
    {Feature::Sse3, "sse3"},       {Feature::Ssse3, "ssse3"},       {Feature::Sse41, "sse4.1"},
    {Feature::Sse42, "sse4.2"},    {Feature::Syscall, "syscall"},   {Feature::Tsc, "tsc"},
    {Feature::Xsave, "xsave"},     {Feature::Xsaveopt, "xsaveopt"}, {Feature::Xsavec, "xsavec"},
    {Feature::Xsaves, "xsaves"},
};

struct Set {
  ZydisISASet set;
  Feature feature;
};

constexpr Set kSets[] = {
    {ZYDIS_ISA_SET_X87, Feature::Fpu},
    {ZYDIS_ISA_SET_FCMOV, Feature::Cmov},
    {ZYDIS_ISA_SET_PPRO, Feature::Cmov},  // FCOMI and its kin
    {ZYDIS_ISA_SET_PENTIUMMMX, Feature::Mmx},
    {ZYDIS_ISA_SET_FXSAVE, Feature::Fxsr},
    {ZYDIS_ISA_SET_FXSAVE64, Feature::Fxsr},
    {ZYDIS_ISA_SET_SSEMXCSR, Feature::Sse},
    {ZYDIS_ISA_SET_SSE, Feature::Sse},
    {ZYDIS_ISA_SET_SSE2, Feature::Sse2},
    {ZYDIS_ISA_SET_SSE2MMX, Feature::Sse2},
    {ZYDIS_ISA_SET_SSE3, Feature::Sse3},
    {ZYDIS_ISA_SET_SSE3X87, Feature::Sse3},
    {ZYDIS_ISA_SET_SSSE3, Feature::Ssse3},
    {ZYDIS_ISA_SET_SSSE3MMX, Feature::Ssse3},
    {ZYDIS_ISA_SET_SSE4, Feature::Sse41},
    {ZYDIS_ISA_SET_SSE42, Feature::Sse42},
    {ZYDIS_ISA_SET_AES, Feature::Aes},
    {ZYDIS_ISA_SET_PCLMULQDQ, Feature::Pclmulqdq},
    {ZYDIS_ISA_SET_SHA, Feature::Sha},
    {ZYDIS_ISA_SET_AVX, Feature::Avx},
    {ZYDIS_ISA_SET_AVXAES, Feature::Avx},
    {ZYDIS_ISA_SET_AVX2, Feature::Avx2},
    {ZYDIS_ISA_SET_AVX2GATHER, Feature::Avx2},
    {ZYDIS_ISA_SET_AVX_GFNI, Feature::Never},
    {ZYDIS_ISA_SET_FMA, Feature::Fma},
    {ZYDIS_ISA_SET_F16C, Feature::F16c},
    {ZYDIS_ISA_SET_XSAVE, Feature::Xsave},
    {ZYDIS_ISA_SET_XSAVEOPT, Feature::Xsaveopt},
    {ZYDIS_ISA_SET_XSAVEC, Feature::Xsavec},
    {ZYDIS_ISA_SET_XSAVES, Feature::Xsaves},
};

}  // namespace

FeatureSet::FeatureSet(const cpu::CpuidTable& cpuid) {
  for (const Name& n : kNames) {
    if (cpuid.has(n.name)) bits_ |= u64{1} << static_cast<unsigned>(n.feature);
  }
}

Feature feature_of(ZydisISASet set) {
  for (const Set& s : kSets) {
    if (s.set == set) return s.feature;
  }
  return Feature::Never;
}

}  // namespace atl::soft
