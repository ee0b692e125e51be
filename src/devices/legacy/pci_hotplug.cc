#include "devices/legacy/pci_hotplug.h"

#include <bit>

#include "base/endian.h"

namespace atl::devices {
namespace {

enum Register : u64 { kUp = 0x00, kDown = 0x04, kEject = 0x08, kRemovable = 0x0c, kSelect = 0x10 };

constexpr u32 bit(unsigned slot) { return u32{1} << (slot & 31); }

}  // namespace

/// A guest that starts anew has let go of what it was asked for.
void PciHotplug::reset() {
  u32 leaving = 0;
  {
    Lock lock(mutex_);
    leaving = down_ & removable_;
    up_ = down_ = selected_bus_ = 0;
  }
  eject(leaving);
}

void PciHotplug::visit(Archive& archive) {
  Lock lock(mutex_);
  archive.field(1, "up", up_);
  archive.field(2, "down", down_);
  archive.field(3, "selected_bus", selected_bus_);
}

void PciHotplug::set_removable(unsigned slot, bool removable) {
  Lock lock(mutex_);
  removable_ = removable ? removable_ | bit(slot) : removable_ & ~bit(slot);
}

void PciHotplug::announce_plugged(unsigned slot) {
  {
    Lock lock(mutex_);
    up_ |= bit(slot);
  }
  callbacks_.changed();
}

void PciHotplug::request_unplug(unsigned slot) {
  {
    Lock lock(mutex_);
    down_ |= bit(slot);
  }
  callbacks_.changed();
}

bool PciHotplug::unplug_pending(unsigned slot) {
  Lock lock(mutex_);
  return down_ & bit(slot);
}

u64 PciHotplug::bus_read(u64 offset, unsigned width) {
  Lock lock(mutex_);
  const u64 value = read_register(offset & ~u64{3});
  return value >> (8 * (offset & 3)) & byte_mask(width);
}

u32 PciHotplug::read_register(u64 offset) {
  if (offset == kSelect) return selected_bus_;
  if (selected_bus_ != 0) return 0;
  switch (offset) {
    case kUp: return std::exchange(up_, 0u);
    case kDown: return down_;
    case kRemovable: return removable_;
    default: return 0;
  }
}

void PciHotplug::bus_write(u64 offset, u64 value, unsigned width) {
  if (width != 4) return;
  u32 ejected = 0;
  {
    Lock lock(mutex_);
    if (offset == kSelect) selected_bus_ = static_cast<u32>(value);
    if (offset == kEject && selected_bus_ == 0) ejected = static_cast<u32>(value) & removable_;
    down_ &= ~ejected;
  }
  eject(ejected);
}

void PciHotplug::eject(u32 slots) {
  for (; slots; slots &= slots - 1) callbacks_.eject(static_cast<unsigned>(std::countr_zero(slots)));
}

}  // namespace atl::devices
