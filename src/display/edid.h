// A display's description of itself: VESA E-EDID 1.4, one block of 128 bytes. With a preferred size, and the usual smaller
// ones as standard and established timings.
#pragma once

#include <array>

#include "base/types.h"

namespace atl::display {

inline constexpr size_t kEdidBytes = 128;
/// `width` and `height` in pixels, at most 4095 each, are told as the preferred mode with 60 pictures a second.
std::array<u8, kEdidBytes> make_edid(u32 width, u32 height);

}  // namespace atl::display
