// Key codes of libvirt's codesets (virKeycodeSet) as the PC's scan codes, set 1, with 0x80 for those after 0xE0.
#pragma once

#include <optional>

#include "base/types.h"

namespace atl::manage {

/// Codesets: 0 is Linux's input-event codes, 1 and 7 are scan codes already. Others are not offered.
std::optional<u32> pc_scancode(u32 codeset, u32 code);

}  // namespace atl::manage
