// Which Mode (abi.h) a core is in, for the choice of translations.
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft::translate {

/// kNoMode: 16-bit code, segments that are not flat, alignment checks, CPL 1 and 2.
Mode mode_of(const Core& core);

/// After anything that mode_of() looks at has changed. Called by update_access_set(), which update_mode() calls.
inline void update_translate_mode(Core& core) { core.translate_mode = mode_of(core); }

/// Whether the control registers let SSE instructions run and, if the guest has them, AVX instructions. Translated code then
/// keeps vectors in the host's registers; else each is left to the interpreter and faults there.
VectorLevel vectors_allowed(const Core& core);

}  // namespace atl::soft::translate
