// Random user-level instructions with operands that make sense: registers full of telling values, memory operands that hit
// the window, its edges and what lies outside.
#pragma once

#include <string_view>

#include "cpu/soft/differential/case.h"
#include "cpu/soft/differential/instructions.h"

namespace atl::soft::differential {

class Generator {
 public:
  /// `only`: a mnemonic in lower case, "" for all.
  Generator(u64 seed, std::string_view only);
  /// Case `index` of this seed, whatever ran before it; `memory` is filled with what the window holds.
  Case make(u64 index, std::array<u8, kWindowBytes>& memory);

 private:
  u64 seed_;
  Instructions instructions_;
  std::array<u8, kWindowBytes> pattern_;
};

}  // namespace atl::soft::differential
