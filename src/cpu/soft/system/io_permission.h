// May the current code touch these I/O ports? (SDM vol. 1, section 19.5: IOPL and the TSS's permission bitmap)
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft {

/// False after raising #GP(0), or the page fault that reading the bitmap met. `width` is 1, 2 or 4.
bool check_io_permission(Core& core, u16 port, unsigned width);

}  // namespace atl::soft
