// The path of a vCPU's register access: newest map, slot, ioevent, device.
#include <algorithm>
#include <bit>

#include "base/endian.h"
#include "memory/address_space.h"

namespace atl::memory {
namespace {

using Slot = AddressMap::Slot;

/// One access of a fixed width, so that the compiler makes it one load or store.
u64 load_ram(const u8* at, unsigned width) {
  switch (width) {
    case 1: return *at;
    case 2: return load_le<u16>(at);
    case 4: return load_le<u32>(at);
    default: return load_le<u64>(at);
  }
}

void store_ram(u8* at, u64 value, unsigned width) {
  switch (width) {
    case 1: *at = static_cast<u8>(value); break;
    case 2: store_le(at, static_cast<u16>(value)); break;
    case 4: store_le(at, static_cast<u32>(value)); break;
    default: store_le(at, value);
  }
}

const IoEvent* matching_event(const Region& region, u64 offset, u64 value, unsigned width) {
  for (const IoEvent& event : region.events) {
    if (event.offset != offset || (event.width && event.width != width)) continue;
    if (!event.value || ((*event.value ^ value) & byte_mask(width)) == 0) return &event;
  }
  return nullptr;
}

void signal(const IoEvent& event) {
  u64 one = 1;
  [[maybe_unused]] ssize_t n = ::write(event.fd, &one, sizeof one);  // a full counter is signalled already
}

/// The bytes of an access at `at` that stay inside `slot` (nullptr: nobody's, byte by byte), as a width: 1, 2, 4 or 8.
unsigned width_within(const Slot* slot, u64 at, unsigned width) {
  if (!slot) return 1;
  u64 left = slot->base + slot->size - at;
  return left >= width ? std::bit_floor(width) : static_cast<unsigned>(std::bit_floor(left));
}

}  // namespace

void BusView::refresh() {
  Lock lock(space_.mutex_);
  map_ = view_ == View::Smm ? space_.smm_map_ : space_.map_;
  memory_ = space_.memory_;
  generation_ = space_.generation();
  last_ = nullptr;
}

const AddressMap& BusView::map() {
  if (generation_ != space_.generation()) [[unlikely]]
    refresh();
  return *map_;
}

const AddressMap::Slot* BusView::slot_at(u64 at) {
  if (generation_ != space_.generation()) [[unlikely]]
    refresh();
  if (last_ && at - last_->base < last_->size) return last_;
  const Slot* slot = map_->find(at);
  if (slot) last_ = slot;
  return slot;
}

u64 BusView::read(u64 at, unsigned width) {
  const Slot* slot = slot_at(at);
  if (slot && width <= slot->size - (at - slot->base)) [[likely]]
    return read_within(slot, at, width);
  u64 value = 0;
  for (unsigned done = 0; done < width;) {
    slot = slot_at(at + done);
    unsigned n = width_within(slot, at + done, width - done);
    value |= read_within(slot, at + done, n) << (8 * done);
    done += n;
  }
  return value;
}

void BusView::write(u64 at, u64 value, unsigned width) {
  const Slot* slot = slot_at(at);
  if (slot && width <= slot->size - (at - slot->base)) [[likely]]
    return write_within(slot, at, value, width);
  for (unsigned done = 0; done < width;) {
    slot = slot_at(at + done);
    unsigned n = width_within(slot, at + done, width - done);
    write_within(slot, at + done, (value >> (8 * done)) & byte_mask(n), n);
    done += n;
  }
}

u64 BusView::read_within(const Slot* slot, u64 at, unsigned width) {
  if (!slot) {
    ++unclaimed_;
    return byte_mask(width);
  }
  const Region& region = *slot->region;
  u64 offset = at - slot->base + slot->region_offset;
  if (region.ram) return load_ram(region.ram->data() + region.ram_offset + offset, width);
  return region.device->bus_read(offset, width) & byte_mask(width);
}

void BusView::write_within(const Slot* slot, u64 at, u64 value, unsigned width) {
  if (!slot) {
    ++unclaimed_;
    return;
  }
  const Region& region = *slot->region;
  u64 offset = at - slot->base + slot->region_offset;
  if (region.ram) {
    if (region.readonly) {
      if (region.device) region.device->bus_write(offset, value & byte_mask(width), width);
      return;
    }
    store_ram(region.ram->data() + region.ram_offset + offset, value, width);
    memory_->wrote(at, width);
  } else if (const IoEvent* event = matching_event(region, offset, value, width)) {
    signal(*event);
  } else {
    region.device->bus_write(offset, value & byte_mask(width), width);
  }
}

}  // namespace atl::memory
