// Guest physical memory and I/O port spaces: who answers at which address.
//
// An AddressSpace is changed by the control thread (devices plugged, RAM added) or by the vCPU that programs a BAR, one at
// a time; each change publishes a new immutable AddressMap. vCPU threads hold a BusView, which picks up the newest map at
// the next access.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/types.h"
#include "memory/guest_memory.h"

namespace atl::memory {

/// Answers reads and writes of a register block. Called on vCPU threads, several at once; each device's header says how
/// it protects itself. `offset` counts from the region's start; `width` is 1, 2, 4 or 8 and never crosses the region's end.
class BusDevice {
 public:
  virtual ~BusDevice() = default;
  virtual u64 bus_read(u64 offset, unsigned width) = 0;
  virtual void bus_write(u64 offset, u64 value, unsigned width) = 0;
};

/// A write that signals an eventfd instead of calling the device (ioeventfd). `width` 0 matches any width, `value` only if
/// set.
struct IoEvent {
  u64 offset = 0;  // from the region's start
  unsigned width = 0;
  std::optional<u64> value;
  int fd = -1;  // an eventfd that outlives the region's being mapped
  bool operator==(const IoEvent&) const = default;
};

/// How a processor sees the space: in system management mode it sees memory that is hidden from all others, devices included.
enum class View : u8 { Normal, Smm };
/// In which views a region is.
enum class Audience : u8 { Both, NormalOnly, SmmOnly };

/// A window of an address space. One of `device` and `ram` is set; both for flash: RAM is read, the device is written.
struct Region {
  std::string name;        // for mtree and errors
  u64 base = 0;
  u64 size = 0;
  int priority = 0;        // a higher one covers a lower one where they overlap
  BusDevice* device = nullptr;
  std::shared_ptr<RamBlock> ram;
  u64 ram_offset = 0;
  bool readonly = false;   // RAM: writes are ignored (ROM)
  std::vector<IoEvent> events;
  Audience audience = Audience::Both;
};

using RegionId = u64;

/// A flattened, immutable picture of one address space: disjoint slots in order.
class AddressMap {
 public:
  struct Slot {
    u64 base = 0;
    u64 size = 0;
    u64 region_offset = 0;  // of `base` inside the region
    std::shared_ptr<const Region> region;
  };

  explicit AddressMap(std::vector<Slot> slots) : slots_(std::move(slots)) {}
  /// The slot that holds `at`, or nullptr (open bus).
  const Slot* find(u64 at) const;
  const std::vector<Slot>& slots() const { return slots_; }

 private:
  std::vector<Slot> slots_;
};

/// Follows what an accelerator must tell the kernel: RAM slots and ioeventfds of the normal view. Called on the changing thread, after the new
/// map is published and before the change returns; never from two threads at once. It must not change the space.
class MapListener {
 public:
  virtual ~MapListener() = default;
  virtual void map_changed(const AddressMap& before, const AddressMap& after) = 0;
};

class AddressSpace {
 public:
  /// `limit` is the first address past the space (1 << 16 for ports).
  AddressSpace(std::string name, u64 limit);

  /// Adds a region. Fails if it does not fit, or overlaps another of the same priority: the error names both.
  Result<RegionId> add(Region region);
  void remove(RegionId id);
  /// Moves a region (BAR reprogrammed) or changes its events, in one published step.
  Status update(RegionId id, u64 base, std::vector<IoEvent> events);
  /// Groups changes: the map is published once, when the last Batch ends.
  class Batch;

  std::shared_ptr<const AddressMap> map(View view = View::Normal) const;
  /// The RAM of the normal view, for devices.
  std::shared_ptr<const GuestMemory> guest_memory() const;
  /// The one listener; it is told at once what is mapped already, as a change from an empty map. nullptr ends it, silently.
  void set_listener(MapListener* listener);
  void set_write_observer(WriteObserver* observer);
  u64 generation() const { return generation_.load(std::memory_order_acquire); }
  const std::string& name() const { return name_; }

 private:
  friend class BusView;
  using Regions = std::vector<std::pair<RegionId, std::shared_ptr<const Region>>>;

  Status check(const Region& region, RegionId self) const REQUIRES(change_mutex_);
  Regions::iterator place_of(RegionId id) REQUIRES(change_mutex_);
  void changed() REQUIRES(change_mutex_);
  std::shared_ptr<const AddressMap> flatten_view(View view) const REQUIRES(change_mutex_);
  void publish() REQUIRES(change_mutex_);

  const std::string name_;
  const u64 limit_;
  Mutex change_mutex_;  // held through a change, its listener included; taken before mutex_
  Regions regions_ GUARDED_BY(change_mutex_);
  RegionId next_id_ GUARDED_BY(change_mutex_) = 1;
  int batch_depth_ GUARDED_BY(change_mutex_) = 0;
  bool batch_dirty_ GUARDED_BY(change_mutex_) = false;
  MapListener* listener_ GUARDED_BY(change_mutex_) = nullptr;
  WriteObserver* observer_ GUARDED_BY(change_mutex_) = nullptr;
  mutable Mutex mutex_;  // held for moments, by readers too
  std::shared_ptr<const AddressMap> map_ GUARDED_BY(mutex_);
  std::shared_ptr<const AddressMap> smm_map_ GUARDED_BY(mutex_);  // the same one as long as all regions are in both views
  std::shared_ptr<const GuestMemory> memory_ GUARDED_BY(mutex_);
  std::atomic<u64> generation_{1};
};

class AddressSpace::Batch {
 public:
  explicit Batch(AddressSpace& space);
  ~Batch();
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

 private:
  AddressSpace& space_;
};

/// One thread's own reference to the newest map, with a cache of the last slot hit. Not shared between threads.
class BusView {
 public:
  explicit BusView(AddressSpace& space, View view = View::Normal) : space_(space), view_(view) { refresh(); }

  /// Dispatches an access of 1, 2, 4 or 8 bytes; splits it where it crosses slots. Open bus reads as all ones.
  u64 read(u64 at, unsigned width);
  void write(u64 at, u64 value, unsigned width);
  /// The newest map; the reference is valid until the next call on this view.
  const AddressMap& map();
  /// Accesses that nobody claimed, so far.
  u64 unclaimed() const { return unclaimed_; }

 private:
  void refresh();
  const AddressMap::Slot* slot_at(u64 at);
  u64 read_within(const AddressMap::Slot* slot, u64 at, unsigned width);
  void write_within(const AddressMap::Slot* slot, u64 at, u64 value, unsigned width);

  AddressSpace& space_;
  const View view_;
  std::shared_ptr<const AddressMap> map_;
  std::shared_ptr<const GuestMemory> memory_;
  u64 generation_ = 0;
  const AddressMap::Slot* last_ = nullptr;
  u64 unclaimed_ = 0;
};

}  // namespace atl::memory
