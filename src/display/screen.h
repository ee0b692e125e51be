// What a display adapter shows. The control thread asks; the adapter draws into the asker's surface.
#pragma once

#include <string>

#include "display/surface.h"

namespace atl::display {

class Screen {
 public:
  virtual ~Screen() = default;
  /// Draws the present picture, resizing the surface to it. Control thread.
  virtual void draw(Surface& surface) = 0;
  /// The characters of a text mode, a line each; "" if it shows graphics.
  virtual std::string text() = 0;
};

}  // namespace atl::display
