// A split ring (VIRTIO 1.2 section 2.7) of our own, in memory that a vhost-user back end maps: what the guest's ring holds is passed
// on through it. So the guest's rings may have any layout and may be anywhere, the software CPU hears of every byte that is written to
// guest memory, and a stopped machine holds no state but the guest's ring positions.
//
// Threads: the loop of the device that owns it. The peer writes the used ring at any time; nothing it writes is believed.
#pragma once

#include <optional>
#include <vector>

#include "base/fd.h"
#include "base/types.h"
#include "devices/virtio/chain.h"

namespace atl::devices {

class ShadowRing {
 public:
  static constexpr u16 kSize = 1024;
  static constexpr u64 kBytes = 32 * kKiB;  // of shared memory

  /// `memory` has kBytes, page aligned.
  ShadowRing(u8* memory, Fd kick, Fd call) : memory_(memory), kick_(std::move(kick)), call_(std::move(call)) { clear(); }

  /// Power-on state; nothing is in flight.
  void clear();
  const Fd& kick_fd() const { return kick_; }
  const Fd& call_fd() const { return call_; }
  u8* descriptors() const { return memory_; }
  u8* driver() const { return memory_ + kDriverAt; }
  u8* device() const { return memory_ + kDeviceAt; }

  /// Passes a chain on; false, and the chain stays the caller's, if there is no room now.
  bool push(Chain& chain);
  /// Kicks the peer for what was pushed since the last call, if it wants that.
  void kick();
  /// Completes what the peer has finished; false if its used ring makes no sense.
  bool collect();
  /// After the peer has stopped, having taken `taken` entries in all: gives back the ones that it has not looked at, newest first;
  /// those it took and never finished end without data.
  template <class F>
  void drain(u16 taken, F give_back);
  u16 in_flight() const { return static_cast<u16>(kSize - free_.size()); }

 private:
  static constexpr u32 kDescriptorBytes = 16;
  static constexpr u64 kDriverAt = u64{kDescriptorBytes} * kSize;  // 16 KiB
  static constexpr u64 kDeviceAt = kDriverAt + 4 * kKiB;

  struct Entry {
    Chain chain;
    std::vector<u16> descriptors;
  };
  void add(Entry& entry, const iovec& part, bool writable);
  void release(u16 head);

  u8* const memory_;
  Fd kick_, call_;
  std::vector<u16> free_;
  std::vector<std::optional<Entry>> entries_;  // by first descriptor
  std::vector<u16> order_;                     // first descriptor of each ring slot
  u16 available_ = 0, kicked_ = 0, used_ = 0;
};

template <class F>
void ShadowRing::drain(u16 taken, F give_back) {
  // A liar cannot have taken more than there was.
  u16 left = static_cast<u16>(available_ - taken);
  for (u16 i = 0; i < left && i < kSize; ++i) {
    const u16 head = order_[static_cast<u16>(available_ - 1 - i) % kSize];
    if (!entries_[head]) break;  // finished without having been taken
    give_back(std::move(entries_[head]->chain));
    release(head);
  }
  for (u16 head = 0; head < kSize; ++head)
    if (entries_[head]) release(head);
}

}  // namespace atl::devices
