#include "cpu/kvm/memory_slots.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/math.h"

namespace atl::cpu::kvm {

// -- RAM -------------------------------------------------------------------------------------------------------------------

MemorySlots::Slots MemorySlots::wanted(const memory::AddressMap& map) {
  Slots slots;
  for (const auto& slot : map.slots()) {
    const memory::Region& region = *slot.region;
    if (!region.ram) continue;
    u64 offset = region.ram_offset + slot.region_offset;
    // The kernel maps whole pages; the odd bytes of a RAM region are served by exits.
    bool whole_pages = (slot.base | slot.size | offset) % kPageSize == 0;
    if (!whole_pages || !range_fits(offset, slot.size, region.ram->size())) continue;
    slots[slot.base] = {
        .size = slot.size, .host = region.ram->data() + offset, .readonly = region.readonly, .ram = region.ram};
  }
  return slots;
}

/// Slots that go are removed before any is added: a new one may overlap them.
void MemorySlots::follow(const memory::AddressMap& map) {
  Slots wanted_slots = wanted(map);
  auto stays = [&](u64 gpa, const Slot& slot) {
    auto at = wanted_slots.find(gpa);
    return at != wanted_slots.end() && at->second.same_memory(slot);
  };
  std::erase_if(slots_, [&](const auto& entry) {
    if (stays(entry.first, entry.second)) return false;
    remove(entry.first, entry.second);
    return true;
  });
  for (auto& [gpa, slot] : wanted_slots) {
    if (!slots_.contains(gpa)) add(gpa, std::move(slot));
  }
}

u32 MemorySlots::free_number() const {
  u32 number = 0;
  while (std::ranges::any_of(slots_, [&](const auto& entry) { return entry.second.number == number; })) ++number;
  return number;
}

void MemorySlots::add(u64 gpa, Slot slot) {
  slot.number = free_number();
  Status added = vm_.set_memory_region({.slot = slot.number,
                                        .flags = slot.readonly ? u32{KVM_MEM_READONLY} : 0,
                                        .guest_phys_addr = gpa,
                                        .memory_size = slot.size,
                                        .userspace_addr = reinterpret_cast<u64>(slot.host)});
  if (added) {
    slots_[gpa] = std::move(slot);
  } else {
    log_warning("guest memory at {:#x} is slow: {}", gpa, added.error().text());
  }
}

void MemorySlots::remove(u64 gpa, const Slot& slot) {
  // Removing a slot that exists cannot fail for reasons that a caller could do anything about.
  (void)vm_.set_memory_region({.slot = slot.number, .guest_phys_addr = gpa});
}

std::optional<u32> MemorySlots::slot_at(u64 gpa) const {
  auto after = slots_.upper_bound(gpa);
  if (after == slots_.begin()) return std::nullopt;
  const auto& [base, slot] = *std::prev(after);
  return gpa - base < slot.size ? std::optional(slot.number) : std::nullopt;
}

// -- ioeventfds --------------------------------------------------------------------------------------------------------------

std::vector<EventSlots::Event> EventSlots::wanted(const memory::AddressMap& map) {
  std::vector<Event> events;
  for (const auto& slot : map.slots()) {
    for (const memory::IoEvent& event : slot.region->events) {
      bool visible = event.offset >= slot.region_offset && event.offset - slot.region_offset < slot.size;
      bool expressible = event.width != 0 || !event.value;  // the kernel compares values of a given width only
      if (!visible || !expressible) continue;
      events.push_back({.address = slot.base + (event.offset - slot.region_offset),
                        .width = event.width,
                        .value = event.value,
                        .fd = event.fd});
    }
  }
  return events;
}

bool EventSlots::assign(const Event& event, bool on) {
  u32 flags = on ? 0 : u32{KVM_IOEVENTFD_FLAG_DEASSIGN};
  if (ports_) flags |= KVM_IOEVENTFD_FLAG_PIO;
  if (event.value) flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
  Status done = vm_.ioeventfd({.datamatch = event.value.value_or(0),
                               .addr = event.address,
                               .len = event.width,
                               .fd = event.fd,
                               .flags = flags});
  if (!done && on) log_warning("no ioeventfd at {:#x}, exits serve instead: {}", event.address, done.error().text());
  return done.has_value();
}

void EventSlots::follow(const memory::AddressMap& map) {
  std::vector<Event> wanted_events = wanted(map);
  auto in = [](const std::vector<Event>& list, const Event& event) { return std::ranges::find(list, event) != list.end(); };
  std::erase_if(events_, [&](const Event& event) { return !in(wanted_events, event) && (assign(event, false), true); });
  for (const Event& event : wanted_events) {
    if (!in(events_, event) && assign(event, true)) events_.push_back(event);
  }
}

}  // namespace atl::cpu::kvm
