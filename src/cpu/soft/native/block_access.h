// Memory operands larger than a register: state images.
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft {

/// False after raising a fault; a write has then changed nothing.
bool read_block(Core& core, u64 linear, u8* out, unsigned size);
bool write_block(Core& core, u64 linear, const u8* data, unsigned size);
bool probe_write_block(Core& core, u64 linear, unsigned size);

}  // namespace atl::soft
