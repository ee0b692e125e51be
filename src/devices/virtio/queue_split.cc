// Split virtqueues: VIRTIO 1.2 section 2.7.
#include "devices/virtio/queue_detail.h"

namespace atl::devices {

using namespace virtio;

bool Queue::split_has_next() {
  u16 available = load_shared(driver_ + 2);
  u16 count = static_cast<u16>(available - next_avail_);
  if (count > layout_.size) return malformed("available index jumped");
  return count != 0;
}

bool Queue::pop_split(Body& body) {
  u16 slot = next_avail_ & (layout_.size - 1);
  u16 head = load_shared(driver_ + 4 + 2 * u32{slot});
  ++next_avail_;
  body.id = head;
  body.slots = 1;
  return walk_split(body, descriptors_, layout_.size, head, false);
}

bool Queue::walk_split(Body& body, const u8* table, u32 entries, u16 head, bool indirect) {
  u16 next = head;
  for (u32 count = 0; count < entries; ++count) {
    if (next >= entries) return malformed("descriptor index past the table");
    const u8* at = table + kDescriptorBytes * u32{next};
    Descriptor descriptor{load_le<u64>(at), load_le<u32>(at + 8), load_le<u16>(at + 12)};
    next = load_le<u16>(at + 14);
    if (descriptor.flags & kDescIndirect) {
      if (indirect) return malformed("indirect descriptor in an indirect table");
      return follow_indirect(body, descriptor);
    }
    if (!add_buffer(body, descriptor)) return false;
    if (!(descriptor.flags & kDescNext)) return true;
  }
  return malformed("descriptor chain without an end");
}

void Queue::push_split(const Body& body) {
  u8* element = device_ + 4 + 8 * u32{next_used_ & (layout_.size - 1u)};
  store_le<u32>(element, body.id);
  store_le<u32>(element + 4, static_cast<u32>(body.written));
  store_shared(device_ + 2, ++next_used_);
}

bool Queue::wants_interrupt_split() {
  u16 before = std::exchange(signalled_used_, next_used_);
  if (!event_idx_) return !(load_shared(driver_) & kAvailNoInterrupt);
  u16 event = load_shared(driver_ + 4 + 2 * u32{layout_.size});
  return passed_event(event, next_used_, before) || completed_ > 0xffff;
}

}  // namespace atl::devices
