#include "devices/virtio/shadow_ring.h"

#include <algorithm>
#include <cstring>

#include "devices/virtio/queue_detail.h"

namespace atl::devices {

using namespace virtio;

void ShadowRing::clear() {
  std::memset(memory_, 0, kBytes);
  entries_.clear();
  entries_.resize(kSize);
  order_.assign(kSize, 0);
  free_.resize(kSize);
  for (u16 i = 0; i < kSize; ++i) free_[i] = static_cast<u16>(kSize - 1 - i);
  available_ = kicked_ = used_ = 0;
}

void ShadowRing::add(Entry& entry, const iovec& part, bool writable) {
  const u16 index = free_.back();
  free_.pop_back();
  u8* at = memory_ + kDescriptorBytes * index;
  store_le<u64>(at, reinterpret_cast<u64>(part.iov_base));
  store_le<u32>(at + 8, static_cast<u32>(part.iov_len));
  store_le<u16>(at + 12, writable ? kDescWrite : u16{0});
  if (!entry.descriptors.empty()) {
    u8* before = memory_ + kDescriptorBytes * entry.descriptors.back();
    store_le<u16>(before + 12, static_cast<u16>(load_le<u16>(before + 12) | kDescNext));
    store_le<u16>(before + 14, index);
  }
  entry.descriptors.push_back(index);
}

bool ShadowRing::push(Chain& chain) {
  const size_t parts = chain.readable().size() + chain.writable().size();
  if (parts > free_.size()) return false;
  if (parts == 0) {  // nothing to do, and nothing to describe it with
    chain.complete();
    return true;
  }
  Entry entry;
  for (const iovec& part : chain.readable()) add(entry, part, false);
  for (const iovec& part : chain.writable()) add(entry, part, true);
  entry.chain = std::move(chain);
  const u16 head = entry.descriptors.front();
  entries_[head] = std::move(entry);
  order_[available_ % kSize] = head;
  store_le<u16>(driver() + 4 + 2 * (available_ % kSize), head);
  store_shared(driver() + 2, ++available_);
  return true;
}

void ShadowRing::kick() {
  if (std::exchange(kicked_, available_) == available_) return;
  full_fence();
  if (!(load_shared(device()) & kUsedNoNotify)) signal_eventfd(kick_);
}

bool ShadowRing::collect() {
  for (const u16 end = load_shared(device() + 2); used_ != end; ++used_) {
    const u8* element = device() + 4 + 8 * (used_ % kSize);
    const u32 head = load_le<u32>(element), written = load_le<u32>(element + 4);
    if (head >= kSize || !entries_[head]) return false;
    entries_[head]->chain.add_written(written);
    release(static_cast<u16>(head));
  }
  return true;
}

/// The chain, if it is still here, goes back to the guest.
void ShadowRing::release(u16 head) {
  free_.insert(free_.end(), entries_[head]->descriptors.begin(), entries_[head]->descriptors.end());
  entries_[head].reset();
}

}  // namespace atl::devices
