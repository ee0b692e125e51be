// Finds a part of a picture that moved: a window that is dragged, a text that scrolls, for the CopyRect encoding (RFC 6143, 7.7.2).
//
// A short piece of a changed row is looked for in the old picture, in any direction; where it is found, the equal surroundings grow
// to a rectangle. Supported: one movement a picture. Missing: several at a time.
// Any thread; pure functions.
#pragma once

#include <optional>

#include "display/surface.h"

namespace atl::display::vnc {

inline constexpr u64 kMinMotion = 2048;   // pixels; less is sent faster than looked for

/// `to` now shows what began at from_x, from_y.
struct Motion {
  Rect to;
  u32 from_x = 0, from_y = 0;
};

/// The smallest rectangle outside of which the pictures, of one size, are equal; empty if they are.
Rect difference(const Surface& before, const Surface& now);

/// What moved inside of `changed`, if it is worth telling.
std::optional<Motion> find_motion(const Surface& before, const Surface& now, const Rect& changed);

/// Moves the pixels of `picture`; the parts may overlap.
void apply_motion(Surface& picture, const Motion& motion);

}  // namespace atl::display::vnc
