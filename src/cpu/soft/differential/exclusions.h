// What the differential test leaves out, and why.
#pragma once

#include <Zydis/Zydis.h>

#include <span>
#include <string_view>

namespace atl::soft::differential {

struct Exclusion {
  ZydisMnemonic mnemonic;
  std::string_view reason;
};
std::span<const Exclusion> exclusions();

/// Instruction sets that take part.
bool is_included(ZydisISASet set);
bool is_included(const ZydisDecodedInstruction& instruction);

}  // namespace atl::soft::differential
