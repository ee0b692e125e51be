// Random user-level instructions with operands that make sense: registers full of telling values, memory operands that hit
// the window, its edges and what lies outside.
#pragma once

#include <Zydis/Zydis.h>

#include <optional>
#include <span>
#include <string_view>

#include "cpu/soft/differential/case.h"
#include "cpu/soft/differential/random.h"

namespace atl::soft::differential {

class Generator {
 public:
  /// `only`: a mnemonic in lower case, "" for all.
  Generator(u64 seed, std::string_view only);
  /// Case `index` of this seed, whatever ran before it; `memory` is filled with what the window holds.
  Case make(u64 index, std::array<u8, kWindowBytes>& memory);

 private:
  struct Decoded {
    ZydisDecodedInstruction in;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  };
  std::optional<Decoded> decode(Mode mode, std::span<const u8> bytes) const;
  bool accepts(const Decoded& d) const;

  u64 seed_;
  std::string_view only_;
  ZydisDecoder long_, compatibility_;
  ZydisFormatter formatter_;
  std::array<u8, kWindowBytes> pattern_;
};

}  // namespace atl::soft::differential
