// Which instruction set extensions a vCPU's CPUID shows.
#pragma once

#include <Zydis/Zydis.h>

#include <bitset>

#include "base/types.h"
#include "cpu/cpuid.h"

namespace atl::soft {

enum class Feature : u8 {
  None, Adx, Aes, Avx, Avx2, Bmi1, Bmi2, Cldemote, Clflush, Clflushopt, Clwb, Cmov, Cx8, Cx16, F16c, Fma, Fpu, Fsgsbase, Fxsr,
  Invpcid, LahfLm, Abm, Lm, Mmx, Monitor, Movbe, Msr, Nx, Pclmulqdq, Popcnt, Prefetchw, Rdpid, Rdrand, Rdseed, Rdtscp, Sep,
  Sha, Smap, Sse, Sse2, Sse3, Ssse3, Sse41, Sse42, Syscall, Tsc, Xsave, Xsaveopt, Xsavec, Xsaves,
  Avx512f, Avx512bw, Avx512cd, Avx512dq, Avx512vl, Avx512ifma, Avx512vbmi, Avx512vbmi2, Avx512vnni, Avx512bitalg, Avx512vpopcntdq,
  Avx512bf16, Gfni, Vaes, Vpclmulqdq, Never,
};

class FeatureSet {
 public:
  FeatureSet() = default;
  explicit FeatureSet(const cpu::CpuidTable& cpuid);
  bool has(Feature feature) const { return bits_[static_cast<size_t>(feature)]; }
  /// Whether instructions of a Zydis instruction set are offered.
  bool offers(ZydisISASet set) const;

 private:
  std::bitset<static_cast<size_t>(Feature::Never) + 1> bits_{1};
};

}  // namespace atl::soft
