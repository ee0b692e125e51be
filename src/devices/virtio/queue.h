// A virtqueue, device side: split (VIRTIO 1.2 section 2.7) or packed (2.8), with indirect descriptors and event index.
// Missing: in-order completion, ring reset. A ring must lie in one RAM block.
//
// Threads: everything on the loop of the device that owns it, but kick_fd(), which any thread may signal.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/archive.h"
#include "base/fd.h"
#include "base/result.h"
#include "base/types.h"
#include "devices/virtio/chain.h"
#include "devices/virtio/spec.h"
#include "memory/address_space.h"

namespace atl::devices {

/// Where the driver put a queue, as the transport's registers have it.
struct QueueLayout {
  u16 size = 0;
  bool enabled = false;
  GuestAddr descriptors = 0;
  GuestAddr driver = 0;   // available ring, or the driver's event suppression
  GuestAddr device = 0;   // used ring, or the device's event suppression
  bool operator==(const QueueLayout&) const = default;
};

/// What queues tell their device.
class QueueOwner {
 public:
  virtual ~QueueOwner() = default;
  /// The driver wants to be interrupted for this queue.
  virtual void queue_interrupt(u16 index) = 0;
  /// The ring makes no sense; the queue stops. `why` names the rule that was broken.
  virtual void queue_malformed(u16 index, const char* why) = 0;
  /// The last outstanding chain was completed.
  virtual void queue_idle(u16 index) = 0;
};

class Queue {
 public:
  /// `max_size` is what the transport offers: a power of two up to 1024.
  Queue(QueueOwner& owner, u16 index, u16 max_size, Fd kick);
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue();

  u16 index() const { return index_; }
  u16 max_size() const { return max_size_; }
  /// Signalled by the driver's notification.
  const Fd& kick_fd() const { return kick_; }

  /// Takes a layout into use. False (and the owner was told why) if it is malformed.
  bool start(const QueueLayout& layout, u64 features, std::shared_ptr<const memory::GuestMemory> memory);
  void stop();
  bool running() const { return running_; }
  /// The newest guest memory, for descriptors from now on.
  void set_memory(std::shared_ptr<const memory::GuestMemory> memory) { memory_ = std::move(memory); }

  /// The next request, or nothing: the ring is empty, broken or stopped. Notifications by the driver are off while there is
  /// work, and on again when this returns nothing for an empty ring.
  std::optional<Chain> pop();
  /// Undoes the latest pop() that has not been undone. For devices that find they cannot use the chain yet.
  void put_back(Chain chain);
  /// Whether pop() would find something. Leaves notifications as they are.
  bool has_work();
  /// Interrupts the driver if it wants that for what was completed since the last call.
  void notify();

  /// A parked chain is kept for a later try: it does not count as in flight, so that the device can be paused meanwhile.
  void park(const Chain& chain);
  void unpark(const Chain& chain);
  /// Chains that exist, but for parked ones.
  u32 in_flight() const { return in_flight_; }
  /// At most `limit` pops until the next call; 0 lifts the limit. So that one queue cannot keep its loop for itself.
  void set_budget(u32 limit) { budget_ = limit; limited_ = limit != 0; }
  bool budget_spent() const { return limited_ && budget_ == 0; }

  /// Ring positions; the layout comes from the transport. Stopped, or running without chains in flight.
  void visit(Archive& archive);

 private:
  friend class Chain;
  using Body = Chain::Body;
  struct Descriptor;

  bool map_ring(const QueueLayout& layout);
  bool driver_has_next();
  bool split_has_next();
  bool packed_has_next();
  void set_driver_notifications(bool on);
  void set_packed_notifications(bool on);
  bool pop_split(Body& body);
  bool pop_packed(Body& body);
  bool follow_indirect(Body& body, const Descriptor& descriptor);
  bool walk_split(Body& body, const u8* table, u32 entries, u16 head, bool indirect);
  bool walk_packed_table(Body& body, const u8* table, u32 entries);
  bool add_buffer(Body& body, const Descriptor& descriptor);
  /// False, for the callers above; the queue stops and its owner hears why.
  bool malformed(const char* why);
  void complete(Body* body);
  void push_split(const Body& body);
  void push_packed(const Body& body);
  bool wants_interrupt_split();
  bool wants_interrupt_packed();
  void step_packed(u16& position, bool& wrap, u16 slots) const;
  u64 device_writable_bytes() const;
  Body* take_body();
  void release(Body* body);

  QueueOwner& owner_;
  const u16 index_, max_size_;
  Fd kick_;
  std::shared_ptr<const memory::GuestMemory> memory_;
  bool running_ = false, packed_ = false, event_idx_ = false, indirect_ = false;
  QueueLayout layout_;
  u8* descriptors_ = nullptr;  // host addresses of the three parts; their RAM blocks are kept by ring_memory_
  u8* driver_ = nullptr;
  u8* device_ = nullptr;
  std::shared_ptr<const memory::GuestMemory> ring_memory_;

  // Positions: free-running for split; ring slots with wrap counters for packed.
  u16 next_avail_ = 0, next_used_ = 0, signalled_used_ = 0;
  bool avail_wrap_ = true, used_wrap_ = true, signalled_wrap_ = true;
  u32 completed_ = 0;               // chains since the last notify()
  bool notifications_on_ = false;   // the driver's, as we last told it

  u32 in_flight_ = 0, budget_ = 0;
  bool limited_ = false;
  std::vector<std::unique_ptr<Body>> bodies_;
  std::vector<Body*> free_;
};

}  // namespace atl::devices
