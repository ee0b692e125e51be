// Random instruction bytes, and which of them take part in the comparison.
#pragma once

#include <Zydis/Zydis.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/soft/differential/case.h"
#include "cpu/soft/differential/random.h"

namespace atl::soft::differential {

inline constexpr u64 kRepeatPrefixes = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;

struct Decoded {
  ZydisDecodedInstruction in;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

  std::span<const ZydisDecodedOperand> all_operands() const { return {operands, in.operand_count}; }
};

/// Fifteen bytes that begin like an instruction.
std::vector<u8> random_bytes(Random& random, Mode mode);

class Instructions {
 public:
  /// `only`: a mnemonic in lower case, "" for all.
  explicit Instructions(std::string_view only);
  std::optional<Decoded> decode(Mode mode, std::span<const u8> bytes) const;
  bool accepts(const Decoded& d) const;
  std::string text(const Decoded& d, u64 rip) const;

 private:
  std::string_view only_;
  ZydisDecoder long_, compatibility_;
  ZydisFormatter formatter_;
};

}  // namespace atl::soft::differential
