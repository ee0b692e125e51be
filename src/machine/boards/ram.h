// Where a board's RAM lies: below the devices under 4 GiB, and the rest from 4 GiB on.
#pragma once

#include "machine/config.h"
#include "machine/loaders/e820.h"

namespace atl::machine {

RamLayout ram_layout(BoardKind board, u64 ram_bytes);

}  // namespace atl::machine
