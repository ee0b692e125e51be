// A guest driver for tests and fuzzers: RAM, split and packed rings from the driver's side, and a device brought up
// without a transport. VIRTIO 1.2 sections 2.7 and 2.8.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/endian.h"
#include "base/loop.h"
#include "base/math.h"
#include "devices/virtio/device.h"
#include "memory/address_space.h"

namespace atl::devices {

/// Guest RAM at address 0, with an allocator that never frees.
class TestGuest {
 public:
  static constexpr GuestAddr kFirst = 0x1000;

  explicit TestGuest(u64 ram_bytes = 4 * kMiB, const memory::RamOptions& options = {}) : space_("test memory", u64{1} << 40) {
    auto block = memory::RamBlock::create("ram", ram_bytes, options);
    CHECK(block);
    block_ = *block;
    CHECK(space_.add({.name = "ram", .base = 0, .size = ram_bytes, .ram = block_}));
  }

  memory::AddressSpace& space() { return space_; }
  u8* at(GuestAddr address) { return block_->data() + address; }
  u64 size() const { return block_->size(); }
  GuestAddr allocate(u64 size, u64 alignment = 16) {
    next_ = align_up(next_, alignment);
    GuestAddr place = next_;
    next_ += size;
    CHECK(next_ <= block_->size());
    return place;
  }
  GuestAddr put(std::span<const u8> bytes) {
    GuestAddr place = allocate(bytes.size());
    if (!bytes.empty()) std::memcpy(at(place), bytes.data(), bytes.size());
    return place;
  }
  std::string_view text(GuestAddr address, size_t size) { return {reinterpret_cast<char*>(at(address)), size}; }

 private:
  memory::AddressSpace space_;
  std::shared_ptr<memory::RamBlock> block_;
  GuestAddr next_ = kFirst;
};

struct TestBuffer {
  GuestAddr address = 0;
  u32 size = 0;
  bool device_writes = false;
};

/// The driver's side of one ring.
class TestQueue {
 public:
  struct Used {
    u16 id = 0;
    u32 written = 0;
  };

  TestQueue(TestGuest& guest, u16 size, u64 features)
      : guest_(guest),
        size_(size),
        packed_(features & virtio::kFeaturePacked),
        event_idx_(features & virtio::kFeatureEventIdx),
        descriptors_(guest.allocate(16u * size)),
        driver_(guest.allocate(packed_ ? 4 : 6 + 2u * size)),
        device_(guest.allocate(packed_ ? 4 : 6 + 8u * size)),
        slots_of_id_(size, 0) {}

  QueueLayout layout() const {
    return {.size = size_, .enabled = true, .descriptors = descriptors_, .driver = driver_, .device = device_};
  }

  /// Makes a chain available; its id comes back with take_used().
  u16 add(const std::vector<TestBuffer>& buffers, bool indirect = false) {
    if (!indirect) return packed_ ? add_packed(buffers) : add_split(buffers);
    GuestAddr table = guest_.allocate(16 * buffers.size());
    for (size_t i = 0; i < buffers.size(); ++i) {
      bool last = i + 1 == buffers.size();
      u16 flags = static_cast<u16>(write_flag(buffers[i]) | (packed_ || last ? 0 : virtio::kDescNext));
      write_descriptor(table + 16 * i, buffers[i], static_cast<u16>(packed_ ? flags : i + 1));
      store_le<u16>(guest_.at(table + 16 * i + (packed_ ? 14 : 12)), flags);
    }
    TestBuffer whole{table, static_cast<u32>(16 * buffers.size()), false};
    return packed_ ? add_packed({whole}, virtio::kDescIndirect) : add_split({whole}, virtio::kDescIndirect);
  }

  std::optional<Used> take_used() { return packed_ ? take_packed() : take_split(); }

  /// Whether the device asked to be kicked for what was added since the last call.
  bool kick_needed() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    u16 before = std::exchange(kicked_, added_);
    if (packed_) return packed_kick_needed(before);
    if (!event_idx_) return !(load_le<u16>(guest_.at(device_)) & virtio::kUsedNoNotify);
    u16 event = load_le<u16>(guest_.at(device_ + 4 + 8u * size_));
    return static_cast<u16>(added_ - event - 1) < static_cast<u16>(added_ - before);
  }

  /// Interrupts at every completion, or never. With event index, "on" asks for the next completion only.
  void want_interrupts(bool on) {
    if (packed_) {
      u16 position = static_cast<u16>(next_used_ | (used_wrap_ ? 0x8000 : 0));
      store_le<u16>(guest_.at(driver_), position);
      u16 mode = !on ? virtio::kEventDisable : event_idx_ ? virtio::kEventDesc : virtio::kEventEnable;
      store_le<u16>(guest_.at(driver_ + 2), mode);
    } else if (event_idx_) {
      store_le<u16>(guest_.at(driver_ + 4 + 2u * size_), static_cast<u16>(on ? next_used_ : next_used_ - 1));
    } else {
      store_le<u16>(guest_.at(driver_), on ? 0 : virtio::kAvailNoInterrupt);
    }
  }

 private:
  static u16 write_flag(const TestBuffer& buffer) { return buffer.device_writes ? virtio::kDescWrite : 0; }

  /// Address and length, and the third field of either layout: next (split) or buffer id (packed).
  void write_descriptor(GuestAddr at, const TestBuffer& buffer, u16 third) {
    store_le<u64>(guest_.at(at), buffer.address);
    store_le<u32>(guest_.at(at + 8), buffer.size);
    store_le<u16>(guest_.at(at + (packed_ ? 12 : 14)), third);
  }

  u16 add_split(const std::vector<TestBuffer>& buffers, u16 extra_flags = 0) {
    u16 head = next_descriptor_;
    for (size_t i = 0; i < buffers.size(); ++i) {
      u16 slot = next_descriptor_;
      next_descriptor_ = static_cast<u16>((next_descriptor_ + 1) % size_);
      bool last = i + 1 == buffers.size();
      write_descriptor(descriptors_ + 16u * slot, buffers[i], next_descriptor_);
      u16 flags = static_cast<u16>(extra_flags | write_flag(buffers[i]) | (last ? 0 : virtio::kDescNext));
      store_le<u16>(guest_.at(descriptors_ + 16u * slot + 12), flags);
    }
    store_le<u16>(guest_.at(driver_ + 4 + 2u * (added_ % size_)), head);
    ++added_;
    __atomic_store_n(reinterpret_cast<u16*>(guest_.at(driver_ + 2)), added_, __ATOMIC_RELEASE);
    return head;
  }

  u16 add_packed(const std::vector<TestBuffer>& buffers, u16 extra_flags = 0) {
    u16 id = next_id_;
    next_id_ = static_cast<u16>((next_id_ + 1) % size_);
    slots_of_id_[id] = static_cast<u16>(buffers.size());
    GuestAddr head = descriptors_ + 16u * next_descriptor_;
    u16 head_flags = 0;
    for (size_t i = 0; i < buffers.size(); ++i) {
      GuestAddr at = descriptors_ + 16u * next_descriptor_;
      u16 lap = avail_wrap_ ? virtio::kDescAvail : virtio::kDescUsed;
      u16 next = i + 1 == buffers.size() ? 0 : virtio::kDescNext;
      u16 flags = static_cast<u16>(lap | extra_flags | write_flag(buffers[i]) | next);
      write_descriptor(at, buffers[i], id);
      if (i == 0) head_flags = flags;
      if (i != 0) store_le<u16>(guest_.at(at + 14), flags);
      if (++next_descriptor_ == size_) next_descriptor_ = 0, avail_wrap_ = !avail_wrap_;
    }
    added_ = static_cast<u16>(added_ + buffers.size());
    __atomic_store_n(reinterpret_cast<u16*>(guest_.at(head + 14)), head_flags, __ATOMIC_RELEASE);
    return id;
  }

  std::optional<Used> take_split() {
    u16 used = __atomic_load_n(reinterpret_cast<u16*>(guest_.at(device_ + 2)), __ATOMIC_ACQUIRE);
    if (used == next_used_) return std::nullopt;
    const u8* element = guest_.at(device_ + 4 + 8u * (next_used_++ % size_));
    return Used{static_cast<u16>(load_le<u32>(element)), load_le<u32>(element + 4)};
  }

  std::optional<Used> take_packed() {
    const u8* at = guest_.at(descriptors_ + 16u * next_used_);
    u16 flags = __atomic_load_n(reinterpret_cast<const u16*>(at + 14), __ATOMIC_ACQUIRE);
    bool available = flags & virtio::kDescAvail, used = flags & virtio::kDescUsed;
    if (available != used || used != used_wrap_) return std::nullopt;
    Used result{load_le<u16>(at + 12), load_le<u32>(at + 8)};
    u32 next = next_used_ + u32{slots_of_id_[result.id % size_]};
    if (next >= size_) next -= size_, used_wrap_ = !used_wrap_;
    next_used_ = static_cast<u16>(next);
    return result;
  }

  bool packed_kick_needed(u16 before) {
    u16 mode = load_le<u16>(guest_.at(device_ + 2));
    if (mode != virtio::kEventDesc) return mode == virtio::kEventEnable;
    u16 event = load_le<u16>(guest_.at(device_));
    bool same_lap = ((event & 0x8000) != 0) == avail_wrap_;
    u16 position = static_cast<u16>((event & 0x7fff) - (same_lap ? 0 : size_));
    u16 count = static_cast<u16>(added_ - before);
    return static_cast<u16>(next_descriptor_ - position - 1) < count;
  }

  TestGuest& guest_;
  const u16 size_;
  const bool packed_, event_idx_;
  GuestAddr descriptors_, driver_, device_;
  u16 next_descriptor_ = 0, next_id_ = 0, added_ = 0, kicked_ = 0, next_used_ = 0;
  bool avail_wrap_ = true, used_wrap_ = true;
  std::vector<u16> slots_of_id_;
};

/// Brings a device up on its loop, which the test runs by hand.
class TestDriver final : private VirtioInterrupts {
 public:
  TestDriver(TestGuest& guest, VirtioDevice& device) : guest_(guest), device_(device) {
    device_.set_interrupts(this);
    interrupts.resize(device_.queue_count());
  }
  ~TestDriver() override {
    stop();
    device_.set_interrupts(nullptr);
  }

  /// Ring features (packed, event index ...) and device features as the driver chooses them; VERSION_1 by itself.
  void start(u64 features, u16 queue_size = 16) {
    features |= virtio::kFeatureVersion1;
    CHECK(device_.accepts(features));
    VirtioDevice::Activation activation{.features = features};
    queues_.clear();
    for (u16 i = 0; i < device_.queue_count(); ++i) {
      u16 size = std::min(queue_size, device_.queue(i).max_size());
      queues_.push_back(std::make_unique<TestQueue>(guest_, size, features));
      activation.queues.push_back(queues_.back()->layout());
    }
    start_with(std::move(activation));
  }
  void start_with(VirtioDevice::Activation activation) {
    up_ = true;
    device_.activate(std::move(activation));
    settle();
  }
  /// Resets the device and waits until it is.
  void stop() {
    if (!std::exchange(up_, false)) return;
    bool done = false;
    device_.deactivate([&done] { done = true; });
    for (int turn = 0; turn < 10000 && !done; ++turn) device_.loop().run_once(1'000'000);
    CHECK(done);
  }

  TestQueue& queue(u16 index) { return *queues_[index]; }
  void kick(u16 index) {
    signal_eventfd(device_.queue(index).kick_fd());
    settle();
  }
  /// Lets the loop handle what is ready now.
  void settle() {
    for (int turn = 0; turn < 4; ++turn) device_.loop().run_once(0);
  }
  /// Runs the loop until the queue has a completion, for at most some seconds.
  std::optional<TestQueue::Used> wait_used(u16 index) {
    for (int turn = 0; turn < 5000; ++turn) {
      if (auto used = queue(index).take_used()) return used;
      device_.loop().run_once(1'000'000);
    }
    return std::nullopt;
  }
  /// Adds a chain, kicks, and waits for its end.
  std::optional<TestQueue::Used> request(u16 index, const std::vector<TestBuffer>& buffers) {
    queue(index).add(buffers);
    kick(index);
    return wait_used(index);
  }

  std::vector<int> interrupts;
  int config_interrupts = 0, reset_requests = 0;

 private:
  void queue_interrupt(u16 index) override { ++interrupts[index]; }
  void config_interrupt() override { ++config_interrupts; }
  void needs_reset() override { ++reset_requests; }

  TestGuest& guest_;
  VirtioDevice& device_;
  std::vector<std::unique_ptr<TestQueue>> queues_;
  bool up_ = false;
};

}  // namespace atl::devices
