#include "devices/virtio/queue.h"

#include "base/check.h"
#include "base/math.h"
#include "devices/virtio/queue_detail.h"

namespace atl::devices {

using namespace virtio;

namespace {

constexpr u64 kMaxChainBytes = u64{1} << 32;

}  // namespace

Queue::Queue(QueueOwner& owner, u16 index, u16 max_size, Fd kick)
    : owner_(owner), index_(index), max_size_(max_size), kick_(std::move(kick)) {
  CHECK(is_power_of_two(max_size) && max_size <= kMaxBuffers);
}

Queue::~Queue() { CHECK(in_flight_ == 0); }

bool Queue::start(const QueueLayout& layout, u64 features, std::shared_ptr<const memory::GuestMemory> memory) {
  memory_ = ring_memory_ = std::move(memory);
  packed_ = features & kFeaturePacked;
  event_idx_ = features & kFeatureEventIdx;
  indirect_ = features & kFeatureIndirect;
  layout_ = layout;
  next_avail_ = next_used_ = signalled_used_ = 0;
  avail_wrap_ = used_wrap_ = signalled_wrap_ = true;
  completed_ = 0;
  notifications_on_ = false;
  if (!map_ring(layout)) return malformed("ring size, alignment or address");
  running_ = true;
  return true;
}

void Queue::stop() {
  running_ = false;
  memory_ = ring_memory_ = nullptr;
  descriptors_ = driver_ = device_ = nullptr;
  layout_ = {};
}

/// Sections 2.7 and 2.8.10 (sizes and alignments).
bool Queue::map_ring(const QueueLayout& layout) {
  u64 size = layout.size;
  if (size == 0 || size > max_size_ || (!packed_ && !is_power_of_two(size))) return false;
  u64 driver_align = packed_ ? 4 : 2;
  if (layout.descriptors % 16 || layout.driver % driver_align || layout.device % 4) return false;
  descriptors_ = ring_memory_->host(layout.descriptors, kDescriptorBytes * size, packed_);
  driver_ = ring_memory_->host(layout.driver, packed_ ? 4 : 6 + 2 * size, false);
  device_ = ring_memory_->host(layout.device, packed_ ? 4 : 6 + 8 * size, true);
  return descriptors_ && driver_ && device_;
}

bool Queue::malformed(const char* why) {
  running_ = false;
  owner_.queue_malformed(index_, why);
  return false;
}

bool Queue::driver_has_next() { return packed_ ? packed_has_next() : split_has_next(); }

bool Queue::has_work() { return running_ && driver_has_next(); }

/// Split rings: section 2.7.10. With event index, off means leaving the event behind.
void Queue::set_driver_notifications(bool on) {
  notifications_on_ = on;
  if (packed_) return set_packed_notifications(on);
  u8* avail_event = device_ + 4 + 8 * u32{layout_.size};
  if (!event_idx_) {
    store_shared(device_, on ? 0 : kUsedNoNotify);
  } else if (on) {
    store_shared(avail_event, next_avail_);
  }
  if (on) full_fence();
}

std::optional<Chain> Queue::pop() {
  if (!running_ || budget_spent()) return std::nullopt;
  if (!driver_has_next()) {
    if (!running_ || notifications_on_) return std::nullopt;
    set_driver_notifications(true);
    if (!driver_has_next()) return std::nullopt;
  }
  if (notifications_on_) set_driver_notifications(false);
  Body* body = take_body();
  if (!(packed_ ? pop_packed(*body) : pop_split(*body))) {
    release(body);
    return std::nullopt;
  }
  if (limited_) --budget_;
  return Chain(body);
}

void Queue::put_back(Chain chain) {
  Body* body = std::exchange(chain.body_, nullptr);
  if (!body) return;
  if (!packed_) {
    --next_avail_;
  } else if (next_avail_ >= body->slots) {
    next_avail_ = static_cast<u16>(next_avail_ - body->slots);
  } else {
    next_avail_ = static_cast<u16>(next_avail_ + layout_.size - body->slots);
    avail_wrap_ = !avail_wrap_;
  }
  release(body);
}

/// Sections 2.7.5.3 and 2.8.7.
bool Queue::follow_indirect(Body& body, const Descriptor& descriptor) {
  if (!indirect_) return malformed("indirect descriptor without the feature");
  if (descriptor.flags & kDescNext) return malformed("indirect descriptor with NEXT");
  u32 entries = descriptor.size / kDescriptorBytes;
  if (entries == 0 || descriptor.size % kDescriptorBytes || entries > kMaxBuffers)
    return malformed("size of an indirect table");
  const u8* table = memory_->host(descriptor.address, descriptor.size, false);
  if (!table) return malformed("indirect table outside of memory");
  return packed_ ? walk_packed_table(body, table, entries) : walk_split(body, table, entries, 0, true);
}

bool Queue::add_buffer(Body& body, const Descriptor& descriptor) {
  bool writable = descriptor.flags & kDescWrite;
  if (!writable && !body.write_buffers.empty()) return malformed("readable buffer after a writable one");
  if (descriptor.size == 0) return true;
  if (body.readable_bytes + body.writable_bytes + descriptor.size > kMaxChainBytes) return malformed("chain too long");
  auto& list = writable ? body.writable : body.readable;
  if (!memory_->append_iovecs(descriptor.address, descriptor.size, writable, list))
    return malformed("buffer outside of memory");
  (writable ? body.writable_bytes : body.readable_bytes) += descriptor.size;
  if (writable) body.write_buffers.push_back({descriptor.address, descriptor.size});
  return true;
}

void Queue::complete(Body* body) {
  u64 left = body->written;
  for (const Chain::Buffer& buffer : body->write_buffers) {
    if (left == 0) break;
    u64 count = left < buffer.size ? left : buffer.size;
    body->memory->wrote(buffer.address, count);
    left -= count;
  }
  if (running_) {
    packed_ ? push_packed(*body) : push_split(*body);
    ++completed_;
  }
  release(body);
}

u64 Queue::device_writable_bytes() const {
  return packed_ ? u64{kDescriptorBytes} * layout_.size : 6 + 8 * u64{layout_.size};
}

void Queue::notify() {
  if (!running_ || completed_ == 0) return;
  ring_memory_->wrote(packed_ ? layout_.descriptors : layout_.device, device_writable_bytes());
  full_fence();
  bool wanted = packed_ ? wants_interrupt_packed() : wants_interrupt_split();
  completed_ = 0;
  if (wanted) owner_.queue_interrupt(index_);
}

Queue::Body* Queue::take_body() {
  if (free_.empty()) {
    bodies_.push_back(std::make_unique<Body>());
    bodies_.back()->queue = this;
    free_.push_back(bodies_.back().get());
  }
  Body* body = free_.back();
  free_.pop_back();
  if (body->memory != memory_) body->memory = memory_;
  ++in_flight_;
  return body;
}

void Queue::release(Body* body) {
  body->readable.clear();
  body->writable.clear();
  body->write_buffers.clear();
  body->readable_bytes = body->writable_bytes = body->written = 0;
  free_.push_back(body);
  if (--in_flight_ == 0) owner_.queue_idle(index_);
}

void Queue::park(const Chain& chain) {
  CHECK(chain && in_flight_ > 0);
  if (--in_flight_ == 0) owner_.queue_idle(index_);
}

void Queue::unpark(const Chain& chain) {
  CHECK(chain);
  ++in_flight_;
}

void Queue::visit(Archive& archive) {
  archive.field(1, "next_avail", next_avail_);
  archive.field(2, "next_used", next_used_);
  archive.field(3, "avail_wrap", avail_wrap_);
  archive.field(4, "used_wrap", used_wrap_);
  signalled_used_ = next_used_;
  signalled_wrap_ = used_wrap_;
  if (!archive.loading() || !running_ || !packed_) return;
  if (next_avail_ < layout_.size && next_used_ < layout_.size) return;
  next_avail_ = next_used_ = 0;
  archive.fail("queue position past the end of the ring");
}

}  // namespace atl::devices
