// The mode-specific part of entering an event's handler.
#pragma once

#include "cpu/soft/system/events.h"

namespace atl::soft {

/// As enter_handler(), but for the EXT bit of faults met on the way.
bool enter_handler_by_mode(Core& core, const Event& event, u64 return_rip);

}  // namespace atl::soft
