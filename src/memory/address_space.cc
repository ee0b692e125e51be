#include "memory/address_space.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/math.h"

namespace atl::memory {
namespace {

using Slot = AddressMap::Slot;

/// Adds to the disjoint, ordered `slots` those parts of a region that they leave free.
void add_uncovered(std::vector<Slot>& slots, const std::shared_ptr<const Region>& region) {
  u64 at = region->base;
  const u64 end = region->base + region->size;
  std::vector<Slot> pieces;
  auto take_until = [&](u64 limit) {
    if (at < limit) pieces.push_back({at, limit - at, at - region->base, region});
  };
  for (const Slot& slot : slots) {
    if (slot.base >= end) break;
    if (slot.base + slot.size <= at) continue;
    take_until(slot.base);
    at = slot.base + slot.size;
  }
  take_until(end);
  slots.insert(slots.end(), pieces.begin(), pieces.end());
  std::sort(slots.begin(), slots.end(), [](const Slot& a, const Slot& b) { return a.base < b.base; });
}

std::vector<Slot> flatten(std::vector<std::shared_ptr<const Region>> regions) {
  // Regions of one priority never overlap, so their order does not matter.
  std::sort(regions.begin(), regions.end(), [](auto& a, auto& b) { return a->priority > b->priority; });
  std::vector<Slot> slots;
  for (auto& region : regions) add_uncovered(slots, region);
  return slots;
}

std::vector<RamRange> ram_of(const std::vector<Slot>& slots) {
  std::vector<RamRange> ranges;
  for (const Slot& slot : slots) {
    const Region& region = *slot.region;
    if (region.ram)
      ranges.push_back({slot.base, slot.size, region.ram, region.ram_offset + slot.region_offset, region.readonly});
  }
  return ranges;
}

std::string span_of(const Region& region) {
  return fmt::format("'{}' at {:#x}-{:#x}", region.name, region.base, region.base + region.size - 1);
}

bool in_view(const Region& region, View view) {
  return region.audience != (view == View::Smm ? Audience::NormalOnly : Audience::SmmOnly);
}

bool meet(const Region& a, const Region& b) {
  for (View view : {View::Normal, View::Smm})
    if (in_view(a, view) && in_view(b, view)) return true;
  return false;
}

bool overlap(const Region& a, const Region& b) {
  return a.base < b.base + b.size && b.base < a.base + a.size && meet(a, b);
}

}  // namespace

const AddressMap::Slot* AddressMap::find(u64 at) const {
  auto next = std::upper_bound(slots_.begin(), slots_.end(), at, [](u64 a, const Slot& slot) { return a < slot.base; });
  if (next == slots_.begin()) return nullptr;
  const Slot& slot = *std::prev(next);
  return at - slot.base < slot.size ? &slot : nullptr;
}

AddressSpace::AddressSpace(std::string name, u64 limit)
    : name_(std::move(name)),
      limit_(limit),
      map_(std::make_shared<AddressMap>(std::vector<Slot>())),
      smm_map_(map_),
      memory_(std::make_shared<GuestMemory>(std::vector<RamRange>())) {}

Status AddressSpace::check(const Region& region, RegionId self) const {
  if (region.size == 0 || !range_fits(region.base, region.size, limit_))
    return Error(ErrorKind::Invalid,
                 fmt::format("'{}' of {:#x} bytes at {:#x} does not fit the {} space, which ends at {:#x}", region.name,
                             region.size, region.base, name_, limit_));
  for (auto& [id, other] : regions_) {
    if (id == self || other->priority != region.priority || !overlap(region, *other)) continue;
    return Error(ErrorKind::Exists,
                 fmt::format("{} overlaps {} in the {} space", span_of(region), span_of(*other), name_));
  }
  return {};
}

Result<RegionId> AddressSpace::add(Region region) {
  CHECK(region.device != nullptr || region.ram != nullptr);
  CHECK(!(region.device && region.ram) || region.readonly);
  CHECK(!region.ram || range_fits(region.ram_offset, region.size, region.ram->size()));
  Lock lock(change_mutex_);
  TRY(check(region, 0));
  RegionId id = next_id_++;
  regions_.emplace_back(id, std::make_shared<const Region>(std::move(region)));
  changed();
  return id;
}

AddressSpace::Regions::iterator AddressSpace::place_of(RegionId id) {
  auto at = std::find_if(regions_.begin(), regions_.end(), [&](auto& entry) { return entry.first == id; });
  CHECK(at != regions_.end());
  return at;
}

void AddressSpace::remove(RegionId id) {
  Lock lock(change_mutex_);
  regions_.erase(place_of(id));
  changed();
}

Status AddressSpace::update(RegionId id, u64 base, std::vector<IoEvent> events) {
  Lock lock(change_mutex_);
  auto& place = place_of(id)->second;
  Region next = *place;
  next.base = base;
  next.events = std::move(events);
  TRY(check(next, id));
  place = std::make_shared<const Region>(std::move(next));
  changed();
  return {};
}

void AddressSpace::changed() {
  if (batch_depth_ > 0)
    batch_dirty_ = true;
  else
    publish();
}

std::shared_ptr<const AddressMap> AddressSpace::flatten_view(View view) const {
  std::vector<std::shared_ptr<const Region>> regions;
  for (auto& entry : regions_)
    if (in_view(*entry.second, view)) regions.push_back(entry.second);
  return std::make_shared<const AddressMap>(flatten(std::move(regions)));
}

void AddressSpace::publish() {
  auto after = flatten_view(View::Normal);
  const bool differ = std::ranges::any_of(regions_, [](const auto& entry) { return entry.second->audience != Audience::Both; });
  auto smm = differ ? flatten_view(View::Smm) : after;
  auto memory = std::make_shared<const GuestMemory>(ram_of(after->slots()), observer_);
  std::shared_ptr<const AddressMap> before;
  {
    Lock lock(mutex_);
    before = std::exchange(map_, after);
    smm_map_.swap(smm);
    memory_.swap(memory);
    generation_.fetch_add(1, std::memory_order_release);
  }
  if (listener_) listener_->map_changed(*before, *after);
}

std::shared_ptr<const AddressMap> AddressSpace::map(View view) const {
  Lock lock(mutex_);
  return view == View::Smm ? smm_map_ : map_;
}

std::shared_ptr<const GuestMemory> AddressSpace::guest_memory() const {
  Lock lock(mutex_);
  return memory_;
}

void AddressSpace::set_listener(MapListener* listener) {
  Lock lock(change_mutex_);
  listener_ = listener;
  if (listener) listener->map_changed(AddressMap({}), *map());
}

void AddressSpace::set_write_observer(WriteObserver* observer) {
  Lock lock(change_mutex_);
  observer_ = observer;
  publish();
}

AddressSpace::Batch::Batch(AddressSpace& space) : space_(space) {
  Lock lock(space_.change_mutex_);
  ++space_.batch_depth_;
}

AddressSpace::Batch::~Batch() {
  Lock lock(space_.change_mutex_);
  if (--space_.batch_depth_ == 0 && std::exchange(space_.batch_dirty_, false)) space_.publish();
}

}  // namespace atl::memory
