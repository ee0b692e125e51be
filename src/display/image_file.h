// A picture as a file: PPM and PNG.
#pragma once

#include <vector>

#include "display/surface.h"

namespace atl::display {

/// Netpbm "P6".
std::vector<u8> to_ppm(const Surface& surface);
/// PNG (ISO/IEC 15948) of 8 bits a channel, RGB, no interlace.
std::vector<u8> to_png(const Surface& surface);

}  // namespace atl::display
