// What a display adapter shows. The control thread asks; the adapter draws into the asker's surface.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "display/surface.h"

namespace atl::display {

/// The pointer's shape as the guest set it: 0xaarrggbb, colours multiplied by alpha.
struct CursorShape {
  u32 width = 0, height = 0, hot_x = 0, hot_y = 0;
  std::vector<u32> pixels;
};

class Screen {
 public:
  virtual ~Screen() = default;
  /// Draws the present picture, resizing the surface to it. Control thread, as all of this.
  virtual void draw(Surface& surface) = 0;
  /// The characters of a text mode, a line each; "" if it shows graphics.
  virtual std::string text() = 0;
  /// Number of the present cursor shape; it changes with the shape. 0: the guest paints its pointer itself.
  virtual u64 cursor_serial() { return 0; }
  /// With width 0 the pointer is hidden.
  virtual CursorShape cursor() { return {}; }
  /// A viewer would like this size. False: the guest cannot be told.
  virtual bool wish_size(u32 width, u32 height) {
    (void)width, (void)height;
    return false;
  }
};

/// The screens of a machine, in the order in which their adapters were built. Control thread.
class ScreenList {
 public:
  /// `device`: the adapter's id, may be empty.
  void add(Screen& screen, std::string device) { entries_.push_back({&screen, std::move(device)}); }
  void remove(Screen& screen) {
    std::erase_if(entries_, [&](const Entry& e) { return e.screen == &screen; });
  }
  /// nullptr without one.
  Screen* first() const { return entries_.empty() ? nullptr : entries_.front().screen; }
  Screen* find(std::string_view device) const {
    auto found = std::ranges::find(entries_, device, &Entry::device);
    return device.empty() || found == entries_.end() ? nullptr : found->screen;
  }

 private:
  struct Entry {
    Screen* screen;
    std::string device;
  };
  std::vector<Entry> entries_;
};

}  // namespace atl::display
