// Which instruction set extensions a vCPU's CPUID shows.
#pragma once

#include <Zydis/Zydis.h>

#include "base/types.h"
#include "cpu/cpuid.h"

namespace atl::soft {

enum class Feature : u8 {
  None, Adx, Aes, Avx, Avx2, Bmi1, Bmi2, Cldemote, Clflush, Clflushopt, Clwb, Cmov, Cx8, Cx16, F16c, Fma, Fpu, Fsgsbase, Fxsr,
  Invpcid, LahfLm, Abm, Lm, Mmx, Monitor, Movbe, Msr, Nx, Pclmulqdq, Popcnt, Prefetchw, Rdpid, Rdrand, Rdseed, Rdtscp, Sep,
  Sha, Smap, Sse, Sse2, Sse3, Ssse3, Sse41, Sse42, Syscall, Tsc, Xsave, Xsaveopt, Xsavec, Xsaves, Never,
};

class FeatureSet {
 public:
  FeatureSet() = default;
  explicit FeatureSet(const cpu::CpuidTable& cpuid);
  bool has(Feature feature) const { return bits_ >> static_cast<unsigned>(feature) & 1; }

 private:
  u64 bits_ = 1;
};
static_assert(static_cast<unsigned>(Feature::Never) < 64);

/// The feature that an instruction of a Zydis instruction set needs; Never for sets that no guest is offered.
Feature feature_of(ZydisISASet set);

}  // namespace atl::soft
