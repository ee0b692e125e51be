// Whether host code keeps to what translated code may do at all; for tests and fuzzing.
#pragma once

#include <Zydis/Zydis.h>

#include <span>
#include <string>

#include "base/types.h"

namespace atl::soft::translate {

/// What is wrong with the first instruction that is not allowed, empty if all are: bytes that decode to nothing, privileged or
/// system instructions, segment registers or prefixes, memory that is reached by other registers than the core's and the
/// checked address'.
std::string find_forbidden(std::span<const u8> code);

}  // namespace atl::soft::translate
