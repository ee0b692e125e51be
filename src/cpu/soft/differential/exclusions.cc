#include "cpu/soft/differential/exclusions.h"

#include <algorithm>

#include "cpu/cpuid.h"
#include "cpu/soft/decode/features.h"
#include "cpu/soft/native/supported.h"

namespace atl::soft::differential {
namespace {

constexpr std::string_view kClock = "its result differs between two executions";
constexpr std::string_view kKernel = "enters the host's kernel";
constexpr std::string_view kVirtual = "the host's answer is not the guest's";
constexpr std::string_view kHostSegment = "would change segments or bases that the test program itself needs";
constexpr std::string_view kSystemFlags = "sets flags (TF, AC, NT) that stop the test program; system tests cover it";
constexpr std::string_view kTrap = "raises the trap that the test program ends a case with";
constexpr std::string_view kImage = "writes the x87 pointers and the header, which hold host addresses; unit tests cover it";
constexpr std::string_view kSuspends = "waits";

constexpr Exclusion kExclusions[] = {
    {ZYDIS_MNEMONIC_RDTSC, kClock}, {ZYDIS_MNEMONIC_RDTSCP, kClock}, {ZYDIS_MNEMONIC_RDRAND, kClock}, {ZYDIS_MNEMONIC_RDSEED, kClock},
    {ZYDIS_MNEMONIC_RDPMC, kClock}, {ZYDIS_MNEMONIC_RDPRU, kClock},
    {ZYDIS_MNEMONIC_SYSCALL, kKernel}, {ZYDIS_MNEMONIC_SYSENTER, kKernel}, {ZYDIS_MNEMONIC_INT, kKernel}, {ZYDIS_MNEMONIC_INT1, kTrap},
    {ZYDIS_MNEMONIC_INT3, kTrap}, {ZYDIS_MNEMONIC_INTO, kKernel},
    {ZYDIS_MNEMONIC_CPUID, kVirtual}, {ZYDIS_MNEMONIC_RDPID, kVirtual}, {ZYDIS_MNEMONIC_XGETBV, kVirtual}, {ZYDIS_MNEMONIC_SGDT, kVirtual},
    {ZYDIS_MNEMONIC_SIDT, kVirtual}, {ZYDIS_MNEMONIC_SLDT, kVirtual}, {ZYDIS_MNEMONIC_STR, kVirtual}, {ZYDIS_MNEMONIC_SMSW, kVirtual},
    {ZYDIS_MNEMONIC_LAR, kVirtual}, {ZYDIS_MNEMONIC_LSL, kVirtual}, {ZYDIS_MNEMONIC_VERR, kVirtual}, {ZYDIS_MNEMONIC_VERW, kVirtual},
    {ZYDIS_MNEMONIC_VMCALL, kVirtual}, {ZYDIS_MNEMONIC_VMMCALL, kVirtual}, {ZYDIS_MNEMONIC_XTEST, kVirtual},
    {ZYDIS_MNEMONIC_WRFSBASE, kHostSegment}, {ZYDIS_MNEMONIC_WRGSBASE, kHostSegment}, {ZYDIS_MNEMONIC_RDFSBASE, kHostSegment},
    {ZYDIS_MNEMONIC_LFS, kHostSegment}, {ZYDIS_MNEMONIC_LGS, kHostSegment}, {ZYDIS_MNEMONIC_LSS, kHostSegment},
    {ZYDIS_MNEMONIC_LDS, kHostSegment}, {ZYDIS_MNEMONIC_LES, kHostSegment},
    {ZYDIS_MNEMONIC_POPF, kSystemFlags}, {ZYDIS_MNEMONIC_POPFD, kSystemFlags}, {ZYDIS_MNEMONIC_POPFQ, kSystemFlags},
    {ZYDIS_MNEMONIC_IRET, kSystemFlags}, {ZYDIS_MNEMONIC_IRETD, kSystemFlags}, {ZYDIS_MNEMONIC_IRETQ, kSystemFlags},
    {ZYDIS_MNEMONIC_FXSAVE, kImage}, {ZYDIS_MNEMONIC_FXSAVE64, kImage}, {ZYDIS_MNEMONIC_XSAVE, kImage}, {ZYDIS_MNEMONIC_XSAVE64, kImage},
    {ZYDIS_MNEMONIC_XSAVEOPT, kImage}, {ZYDIS_MNEMONIC_XSAVEOPT64, kImage}, {ZYDIS_MNEMONIC_XSAVEC, kImage},
    {ZYDIS_MNEMONIC_XSAVEC64, kImage}, {ZYDIS_MNEMONIC_XRSTOR, kImage}, {ZYDIS_MNEMONIC_XRSTOR64, kImage},
    {ZYDIS_MNEMONIC_FXRSTOR, kImage}, {ZYDIS_MNEMONIC_FXRSTOR64, kImage}, {ZYDIS_MNEMONIC_FNSTENV, kImage}, {ZYDIS_MNEMONIC_FNSAVE, kImage},
    {ZYDIS_MNEMONIC_HLT, kSuspends}, {ZYDIS_MNEMONIC_MONITOR, kSuspends}, {ZYDIS_MNEMONIC_MWAIT, kSuspends},
};

struct Need {
  ZydisISASet set;
  std::string_view feature;  // of the host; "" if every x86-64 processor has it
};
constexpr Need kSets[] = {
    {ZYDIS_ISA_SET_I86, ""}, {ZYDIS_ISA_SET_I186, ""}, {ZYDIS_ISA_SET_I286REAL, ""}, {ZYDIS_ISA_SET_I286PROTECTED, ""},
    {ZYDIS_ISA_SET_I386, ""}, {ZYDIS_ISA_SET_I486, ""}, {ZYDIS_ISA_SET_I486REAL, ""}, {ZYDIS_ISA_SET_PENTIUMREAL, ""},
    {ZYDIS_ISA_SET_PPRO, ""}, {ZYDIS_ISA_SET_CMOV, ""}, {ZYDIS_ISA_SET_FCMOV, ""}, {ZYDIS_ISA_SET_FAT_NOP, ""},
    {ZYDIS_ISA_SET_PREFETCH_NOP, "3dnowprefetch"}, {ZYDIS_ISA_SET_LONGMODE, ""}, {ZYDIS_ISA_SET_LAHF, "lahf-lm"}, {ZYDIS_ISA_SET_PAUSE, ""},
    {ZYDIS_ISA_SET_X87, "fpu"}, {ZYDIS_ISA_SET_PENTIUMMMX, "mmx"}, {ZYDIS_ISA_SET_SSE, "sse"}, {ZYDIS_ISA_SET_SSEMXCSR, "sse"},
    {ZYDIS_ISA_SET_SSE_PREFETCH, "sse"}, {ZYDIS_ISA_SET_SSE2, "sse2"}, {ZYDIS_ISA_SET_SSE2MMX, "sse2"}, {ZYDIS_ISA_SET_SSE3, "pni"},
    {ZYDIS_ISA_SET_SSE3X87, "pni"}, {ZYDIS_ISA_SET_SSSE3, "ssse3"}, {ZYDIS_ISA_SET_SSSE3MMX, "ssse3"}, {ZYDIS_ISA_SET_SSE4, "sse4.1"},
    {ZYDIS_ISA_SET_SSE42, "sse4.2"}, {ZYDIS_ISA_SET_POPCNT, "popcnt"}, {ZYDIS_ISA_SET_LZCNT, "abm"}, {ZYDIS_ISA_SET_BMI1, "bmi1"},
    {ZYDIS_ISA_SET_BMI2, "bmi2"}, {ZYDIS_ISA_SET_ADOX_ADCX, "adx"}, {ZYDIS_ISA_SET_MOVBE, "movbe"}, {ZYDIS_ISA_SET_AES, "aes"},
    {ZYDIS_ISA_SET_PCLMULQDQ, "pclmulqdq"}, {ZYDIS_ISA_SET_SHA, "sha-ni"}, {ZYDIS_ISA_SET_AVX, "avx"}, {ZYDIS_ISA_SET_AVXAES, "aes"},
    {ZYDIS_ISA_SET_AVX2, "avx2"}, {ZYDIS_ISA_SET_AVX2GATHER, "avx2"}, {ZYDIS_ISA_SET_FMA, "fma"}, {ZYDIS_ISA_SET_F16C, "f16c"},
    {ZYDIS_ISA_SET_CMPXCHG16B, "cx16"}, {ZYDIS_ISA_SET_CLFSH, "clflush"}, {ZYDIS_ISA_SET_CLFLUSHOPT, "clflushopt"},
    {ZYDIS_ISA_SET_CLWB, "clwb"},
};

bool has_repeat(const ZydisDecodedInstruction& in) {
  return std::any_of(in.raw.prefixes, in.raw.prefixes + in.raw.prefix_count,
                     [](const auto& prefix) { return prefix.value == 0xf2 || prefix.value == 0xf3; });
}

/// Sets of which the software CPU offers what the host has.
bool is_recent(ZydisISASet set) {
  return (set >= ZYDIS_ISA_SET_AVX512BW_128 && set <= ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512) || set == ZYDIS_ISA_SET_GFNI ||
         set == ZYDIS_ISA_SET_AVX_GFNI || set == ZYDIS_ISA_SET_VAES || set == ZYDIS_ISA_SET_VPCLMULQDQ;
}

}  // namespace

std::span<const Exclusion> exclusions() { return kExclusions; }

bool is_included(ZydisISASet set) {
  static const u64 included = [] {
    cpu::CpuidTable host = cpu::host_cpuid();
    u64 bits = 0;
    for (size_t i = 0; i < std::size(kSets); ++i)
      if (kSets[i].feature.empty() || host.has(kSets[i].feature)) bits |= u64{1} << i;
    return bits;
  }();
  auto at = std::ranges::find(kSets, set, &Need::set);
  if (at != std::end(kSets)) return included >> (at - kSets) & 1;
  static const FeatureSet offered(soft_supported_cpuid());
  return is_recent(set) && offered.offers(set);
}

bool is_included(const ZydisDecodedInstruction& in) {
  if (in.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && in.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX &&
      in.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX)
    return false;
  if (in.attributes & (ZYDIS_ATTRIB_IS_PRIVILEGED | ZYDIS_ATTRIB_HAS_SEGMENT_FS)) return false;
  if (in.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return false;
  bool prefetch_register = in.meta.isa_set == ZYDIS_ISA_SET_PREFETCH_NOP && in.raw.modrm.mod == 3;
  if (prefetch_register) return false;  // NOP for Intel, #UD for AMD
  if (in.meta.category == ZYDIS_CATEGORY_IO || in.meta.category == ZYDIS_CATEGORY_IOSTRINGOP) return false;
  bool repeated_loop = (in.mnemonic == ZYDIS_MNEMONIC_LOOPE || in.mnemonic == ZYDIS_MNEMONIC_LOOPNE) && has_repeat(in);
  if (repeated_loop) return false;  // reserved; some processors let the prefix change the condition
  if (in.mnemonic == ZYDIS_MNEMONIC_MOVSXD && in.operand_width == 16) return false;  // reads two bytes or four
  return is_included(in.meta.isa_set) && std::ranges::find(kExclusions, in.mnemonic, &Exclusion::mnemonic) == std::end(kExclusions);
}

}  // namespace atl::soft::differential
