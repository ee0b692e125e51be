// Packed virtqueues: VIRTIO 1.2 section 2.8.
#include "devices/virtio/queue_detail.h"

namespace atl::devices {

using namespace virtio;

namespace {

// Layout of a descriptor (2.8.13): address, length, buffer id, flags.
constexpr u32 kSize = 8, kId = 12, kFlags = 14;

}  // namespace

bool Queue::packed_has_next() {
  u16 flags = load_shared(descriptors_ + kDescriptorBytes * u32{next_avail_} + kFlags);
  bool available = flags & kDescAvail, used = flags & kDescUsed;
  return available == avail_wrap_ && used != avail_wrap_;
}

void Queue::step_packed(u16& position, bool& wrap, u16 slots) const {
  u32 next = u32{position} + slots;
  if (next >= layout_.size) {
    next -= layout_.size;
    wrap = !wrap;
  }
  position = static_cast<u16>(next);
}

bool Queue::pop_packed(Body& body) {
  body.slots = 0;
  for (u32 slot = next_avail_; body.slots < layout_.size; slot = slot + 1 == layout_.size ? 0 : slot + 1) {
    const u8* at = descriptors_ + kDescriptorBytes * slot;
    Descriptor descriptor{load_le<u64>(at), load_le<u32>(at + kSize), load_le<u16>(at + kFlags)};
    body.id = load_le<u16>(at + kId);
    ++body.slots;
    bool indirect = descriptor.flags & kDescIndirect;
    if (indirect && body.slots > 1) return malformed("indirect descriptor inside a chain");
    if (!(indirect ? follow_indirect(body, descriptor) : add_buffer(body, descriptor))) return false;
    if (descriptor.flags & kDescNext) continue;
    step_packed(next_avail_, avail_wrap_, body.slots);
    return true;
  }
  return malformed("descriptor chain without an end");
}

/// Only WRITE means something in a table's flags; the entries follow each other (2.8.7).
bool Queue::walk_packed_table(Body& body, const u8* table, u32 entries) {
  for (u32 i = 0; i < entries; ++i) {
    const u8* at = table + kDescriptorBytes * i;
    Descriptor descriptor{load_le<u64>(at), load_le<u32>(at + kSize), load_le<u16>(at + kFlags)};
    if (!add_buffer(body, descriptor)) return false;
  }
  return true;
}

void Queue::push_packed(const Body& body) {
  u8* at = descriptors_ + kDescriptorBytes * u32{next_used_};
  store_le<u32>(at + kSize, static_cast<u32>(body.written));
  store_le<u16>(at + kId, body.id);
  u16 flags = static_cast<u16>((body.written ? kDescWrite : 0) | (used_wrap_ ? kDescAvail | kDescUsed : 0));
  store_shared(at + kFlags, flags);
  step_packed(next_used_, used_wrap_, body.slots);
}

void Queue::set_packed_notifications(bool on) {
  if (on && event_idx_) store_shared(device_, static_cast<u16>(next_avail_ | (avail_wrap_ ? 0x8000 : 0)));
  store_shared(device_ + 2, !on ? kEventDisable : event_idx_ ? kEventDesc : kEventEnable);
  if (on) full_fence();
}

/// Positions count from the start of the used lap; those of the lap before are negative (mod 2^16).
bool Queue::wants_interrupt_packed() {
  u16 before = static_cast<u16>(signalled_used_ - (signalled_wrap_ != used_wrap_ ? layout_.size : 0));
  signalled_used_ = next_used_;
  signalled_wrap_ = used_wrap_;
  u16 flags = load_shared(driver_ + 2) & 3;
  if (flags != kEventDesc || !event_idx_) return flags != kEventDisable;
  u16 event = load_shared(driver_);
  bool event_wrap = event & 0x8000;
  u16 position = static_cast<u16>((event & 0x7fff) - (event_wrap != used_wrap_ ? layout_.size : 0));
  return completed_ >= layout_.size || passed_event(position, next_used_, before);
}

}  // namespace atl::devices
