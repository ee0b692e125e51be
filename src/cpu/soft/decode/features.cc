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
    {Feature::Xsaves, "xsaves"},   {Feature::Avx512f, "avx512f"},   {Feature::Avx512bw, "avx512bw"},
    {Feature::Avx512cd, "avx512cd"}, {Feature::Avx512dq, "avx512dq"}, {Feature::Avx512vl, "avx512vl"},
    {Feature::Avx512ifma, "avx512ifma"}, {Feature::Avx512vbmi, "avx512vbmi"}, {Feature::Avx512vbmi2, "avx512vbmi2"},
    {Feature::Avx512vnni, "avx512vnni"}, {Feature::Avx512bitalg, "avx512bitalg"},
    {Feature::Avx512vpopcntdq, "avx512-vpopcntdq"}, {Feature::Avx512bf16, "avx512-bf16"}, {Feature::Gfni, "gfni"},
    {Feature::Vaes, "vaes"},       {Feature::Vpclmulqdq, "vpclmulqdq"},
};

struct Set {
  ZydisISASet set;
  Feature feature;
  Feature also = Feature::None;
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
    {ZYDIS_ISA_SET_GFNI, Feature::Gfni},
    {ZYDIS_ISA_SET_AVX_GFNI, Feature::Gfni, Feature::Avx},
    {ZYDIS_ISA_SET_VAES, Feature::Vaes, Feature::Avx},
    {ZYDIS_ISA_SET_VPCLMULQDQ, Feature::Vpclmulqdq, Feature::Avx},
    {ZYDIS_ISA_SET_FMA, Feature::Fma},
    {ZYDIS_ISA_SET_F16C, Feature::F16c},
    {ZYDIS_ISA_SET_XSAVE, Feature::Xsave},
    {ZYDIS_ISA_SET_XSAVEOPT, Feature::Xsaveopt},
    {ZYDIS_ISA_SET_XSAVEC, Feature::Xsavec},
    {ZYDIS_ISA_SET_XSAVES, Feature::Xsaves},
    {ZYDIS_ISA_SET_AVX512F_512, Feature::Avx512f},
    {ZYDIS_ISA_SET_AVX512F_256, Feature::Avx512f, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512F_128, Feature::Avx512f, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512F_128N, Feature::Avx512f},
    {ZYDIS_ISA_SET_AVX512F_SCALAR, Feature::Avx512f},
    {ZYDIS_ISA_SET_AVX512F_KOP, Feature::Avx512f},
    {ZYDIS_ISA_SET_AVX512BW_512, Feature::Avx512bw},
    {ZYDIS_ISA_SET_AVX512BW_256, Feature::Avx512bw, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512BW_128, Feature::Avx512bw, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512BW_128N, Feature::Avx512bw},
    {ZYDIS_ISA_SET_AVX512BW_KOP, Feature::Avx512bw},
    {ZYDIS_ISA_SET_AVX512DQ_512, Feature::Avx512dq},
    {ZYDIS_ISA_SET_AVX512DQ_256, Feature::Avx512dq, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512DQ_128, Feature::Avx512dq, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512DQ_128N, Feature::Avx512dq},
    {ZYDIS_ISA_SET_AVX512DQ_SCALAR, Feature::Avx512dq},
    {ZYDIS_ISA_SET_AVX512DQ_KOP, Feature::Avx512dq},
    {ZYDIS_ISA_SET_AVX512CD_512, Feature::Avx512cd},
    {ZYDIS_ISA_SET_AVX512CD_256, Feature::Avx512cd, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512CD_128, Feature::Avx512cd, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_IFMA_512, Feature::Avx512ifma},
    {ZYDIS_ISA_SET_AVX512_IFMA_256, Feature::Avx512ifma, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_IFMA_128, Feature::Avx512ifma, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VBMI_512, Feature::Avx512vbmi},
    {ZYDIS_ISA_SET_AVX512_VBMI_256, Feature::Avx512vbmi, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VBMI_128, Feature::Avx512vbmi, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VBMI2_512, Feature::Avx512vbmi2},
    {ZYDIS_ISA_SET_AVX512_VBMI2_256, Feature::Avx512vbmi2, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VBMI2_128, Feature::Avx512vbmi2, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VNNI_512, Feature::Avx512vnni},
    {ZYDIS_ISA_SET_AVX512_VNNI_256, Feature::Avx512vnni, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VNNI_128, Feature::Avx512vnni, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_BITALG_512, Feature::Avx512bitalg},
    {ZYDIS_ISA_SET_AVX512_BITALG_256, Feature::Avx512bitalg, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_BITALG_128, Feature::Avx512bitalg, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512, Feature::Avx512vpopcntdq},
    {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_256, Feature::Avx512vpopcntdq, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_128, Feature::Avx512vpopcntdq, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_BF16_512, Feature::Avx512bf16},
    {ZYDIS_ISA_SET_AVX512_BF16_256, Feature::Avx512bf16, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_BF16_128, Feature::Avx512bf16, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_GFNI_512, Feature::Gfni, Feature::Avx512f},
    {ZYDIS_ISA_SET_AVX512_GFNI_256, Feature::Gfni, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_GFNI_128, Feature::Gfni, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VAES_512, Feature::Vaes, Feature::Avx512f},
    {ZYDIS_ISA_SET_AVX512_VAES_256, Feature::Vaes, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VAES_128, Feature::Vaes, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_512, Feature::Vpclmulqdq, Feature::Avx512f},
    {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_256, Feature::Vpclmulqdq, Feature::Avx512vl},
    {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_128, Feature::Vpclmulqdq, Feature::Avx512vl},
};

}  // namespace

FeatureSet::FeatureSet(const cpu::CpuidTable& cpuid) {
  for (const Name& n : kNames) {
    if (cpuid.has(n.name)) bits_.set(static_cast<size_t>(n.feature));
  }
}

bool FeatureSet::offers(ZydisISASet set) const {
  for (const Set& s : kSets) {
    if (s.set == set) return has(s.feature) && has(s.also);
  }
  return false;
}

}  // namespace atl::soft
