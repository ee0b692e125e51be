// From the interpreter into translated code: a block's first op counts how often the block is entered, has it translated when that
// is often, and from then on goes there.
#pragma once

#include "cpu/soft/exec/block_cache.h"

namespace atl::soft::translate {

/// The op in front of a kept block's own; `gpa` is where the block starts. The core has a runtime.
Op counting_op(Core& core, GuestAddr gpa);

}  // namespace atl::soft::translate
