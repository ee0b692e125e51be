// Which instructions belong to native/, and everything about them that their bytes say.
#pragma once

#include <Zydis/Zydis.h>

#include <optional>

#include "cpu/soft/native/stub.h"

namespace atl::soft {

/// A stub without its host code; `run` decides whether it needs some. nullopt: not ours, or missing on this host.
std::optional<NativeStub> classify(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands);

/// Whether stubs with this `run` consist of host code.
bool needs_code(const NativeStub& stub);

}  // namespace atl::soft
