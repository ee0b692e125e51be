// Instructions that user code may execute but whose results are the host's where the guest's are others, and that nothing makes trap:
// CPUID and the like. Pages that hold one are left to the translator. A matter of fidelity, not of safety.
#pragma once

#include <span>
#include <unordered_map>

#include "base/types.h"

namespace atl::soft::direct {

/// False if an instruction stream through these bytes of a page may meet such an instruction.
bool fit_for_host(std::span<const u8> page);

/// What was found out about pages, by their contents.
class Verdicts {
 public:
  bool fit(std::span<const u8> page);

 private:
  static constexpr size_t kMost = 1 << 14;
  std::unordered_map<u64, bool> known_;
};

}  // namespace atl::soft::direct
