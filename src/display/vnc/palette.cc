#include "display/vnc/palette.h"

namespace atl::display::vnc {

bool Palette::collect(std::span<const u32> pixels, u32 limit) {
  size_ = 0;
  slots_.fill(0);
  for (size_t i = 0; i < pixels.size(); ++i) {
    if (i > 0 && pixels[i] == pixels[i - 1]) continue;
    u32 slot = slot_of(pixels[i]);
    while (slots_[slot] && colours_[slots_[slot] - 1u] != pixels[i]) slot = (slot + 1) % kSlots;
    if (slots_[slot]) continue;
    if (size_ == limit) return false;
    colours_[size_++] = pixels[i];
    slots_[slot] = static_cast<u16>(size_);
  }
  return true;
}

u32 Palette::index_of(u32 pixel) const {
  u32 slot = slot_of(pixel);
  while (slots_[slot] && colours_[slots_[slot] - 1u] != pixel) slot = (slot + 1) % kSlots;
  return slots_[slot] ? slots_[slot] - 1u : 0;
}

}  // namespace atl::display::vnc
