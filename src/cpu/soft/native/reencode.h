// A guest instruction's bytes, with the memory operand replaced by [rsi] and the general register operand by RAX, for
// execution in 64-bit mode (SDM vol. 2, chapter 2).
#pragma once

#include <Zydis/Zydis.h>

#include <optional>
#include <span>
#include <vector>

#include "base/types.h"

namespace atl::soft {

struct Reencoding {
  std::vector<u8> bytes;
  std::optional<u8> gpr;       // the guest's register that RAX stands for
  bool gpr_written = false;
};

/// For legacy, VEX and EVEX encodings with at most one explicit general register operand.
Reencoding reencode(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands, std::span<const u8> bytes);

/// The number of a general register of any width, 0 to 15.
std::optional<u8> gpr_number(ZydisRegister reg);

}  // namespace atl::soft
