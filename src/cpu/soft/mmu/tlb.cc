#include "cpu/soft/mmu/tlb.h"

#include "cpu/soft/direct/tier.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/mmu/fill.h"
#include "cpu/soft/system/debug.h"
#include "cpu/soft/translate/jump_cache.h"
#include "cpu/soft/translate/mode.h"

namespace atl::soft {
namespace {

constexpr u64 kPageMask = ~u64{0xfff};
constexpr u32 kDataPlaces = kTlbSets * Tlb::kEntries;

void clear_tags(TlbEntry& entry, u32 index) { entry.read = entry.write = empty_tag(index); }

/// An entry of either kind by its place.
struct PlacedEntry {
  PlacedEntry(Tlb& tlb, u32 at) : place(at) {
    if (place < kDataPlaces) data = &tlb.entries[place / Tlb::kEntries][place % Tlb::kEntries];
    else fetch = &tlb.fetch_entries[(place - kDataPlaces) / Tlb::kFetchEntries][(place - kDataPlaces) % Tlb::kFetchEntries];
  }
  u64& frame() const { return data ? data->frame : fetch->frame; }
  u32 index() const { return data ? place % Tlb::kEntries : (place - kDataPlaces) % Tlb::kFetchEntries; }
  /// The linear page it stands for, or an address of no page with its index.
  u64 tag() const { return data ? data->read : fetch->tag; }
  void clear() const {
    if (data) clear_tags(*data, index());
    else fetch->tag = empty_tag(index());
  }

  u32 place;
  TlbEntry* data = nullptr;
  FetchEntry* fetch = nullptr;
};

/// Enters the place in the list that its present mapping belongs to. `frame` is the new one, `before` what stood there.
void list(Tlb& tlb, u32 place, u64& frame, u64 before) {
  frame |= before & (FrameBits::kListedLocal | FrameBits::kListedGlobal);
  bool global = frame & FrameBits::kGlobal;
  u64 flag = global ? FrameBits::kListedGlobal : FrameBits::kListedLocal;
  if (frame & flag) return;
  frame |= flag;
  Tlb::PlaceList& places = global ? tlb.global : tlb.local;
  places.places[places.count++] = static_cast<u16>(place);
}

/// Clears and unlists all entries of the list; entries that have come to belong to the other list stay.
void drop_list(Tlb& tlb, bool global) {
  Tlb::PlaceList& places = global ? tlb.global : tlb.local;
  for (u32 i = 0; i < places.count; ++i) {
    PlacedEntry entry(tlb, places.places[i]);
    entry.frame() &= ~(global ? FrameBits::kListedGlobal : FrameBits::kListedLocal);
    if (((entry.frame() & FrameBits::kGlobal) != 0) == global) entry.clear();
  }
  places.count = 0;
  tlb.large_pages[0][global] = tlb.large_pages[1][global] = 0;
}

/// Clears the entries for which `drop` holds.
template <class F>
void clear_entries(Tlb& tlb, F drop) {
  for (Tlb::PlaceList* places : {&tlb.local, &tlb.global}) {
    for (u32 i = 0; i < places->count; ++i)
      if (PlacedEntry entry(tlb, places->places[i]); drop(entry)) entry.clear();
  }
}

template <class F>
void for_data_entries(Tlb& tlb, F visit) {
  for (Tlb::PlaceList* places : {&tlb.local, &tlb.global}) {
    for (u32 i = 0; i < places->count; ++i)
      if (u32 place = places->places[i]; place < kDataPlaces)
        visit(tlb.entries[place / Tlb::kEntries][place % Tlb::kEntries], place % Tlb::kEntries);
  }
}

u64 large_hash(u64 linear, unsigned page_shift) { return u64{1} << ((linear >> page_shift) * 0x9e3779b97f4a7c15 >> 58); }

void note_large(Tlb& tlb, u64 linear, const PageMapping& page) {
  if (page.page_shift > 12) tlb.large_pages[linear >> 63][page.global] |= large_hash(linear, page.page_shift);
}

/// Whether some entry may be part of a larger page around `linear`.
bool may_be_large(const Tlb& tlb, u64 linear) {
  const u64 known = tlb.large_pages[linear >> 63][0] | tlb.large_pages[linear >> 63][1];
  return known & (large_hash(linear, 21) | large_hash(linear, 22) | large_hash(linear, 30));
}

u64 mapping_bits(const PageMapping& page) { return page.page_shift | (page.global ? FrameBits::kGlobal : 0); }

}  // namespace

Tlb::Tlb() {
  for (auto& set : entries)
    for (u32 i = 0; i < kEntries; ++i) clear_tags(set[i], i);
  for (auto& set : fetch_entries)
    for (u32 i = 0; i < kFetchEntries; ++i) set[i].tag = empty_tag(i);
}

const PhysicalMemory::Window* PhysicalMemory::find_slot(GuestAddr at, u64 size) {
  const memory::AddressMap::Slot* slot = map_ ? map_->find(at) : nullptr;
  if (!slot || !slot->region->ram || slot->size - (at - slot->base) < size) return nullptr;
  const memory::Region& region = *slot->region;
  window_ = {slot->base, slot->size, region.ram->data() + region.ram_offset + slot->region_offset, region.readonly};
  return &window_;
}

void fill_tlb(Core& core, TlbSet set, u64 linear, const PageMapping& page, const PhysicalMemory::Window* window) {
  if (!window) return;
  Tlb& tlb = core.tlb;
  TlbEntry& entry = tlb.at(set, linear);
  const u64 tag = linear & kPageMask;
  const u64 before = entry.frame;
  const GuestAddr gpa = page.gpa & kPageMask;
  const bool watched = page_has_data_breakpoint(core, linear);
  clear_tags(entry, Tlb::index(linear));
  if (!watched && access_allowed(core, page, set, Access::Read)) {
    entry.read = tag;
    bool writable = page.dirty && !window->readonly && !core.vm->code.holds_code(gpa);
    if (writable && access_allowed(core, page, set, Access::Write)) entry.write = tag;
  }
  entry.host = reinterpret_cast<u64>(window->host + (gpa - window->base));
  entry.frame = gpa | mapping_bits(page);
  note_large(tlb, linear, page);
  list(tlb, set * Tlb::kEntries + Tlb::index(linear), entry.frame, before);
}

void fill_fetch(Core& core, bool user, u64 linear, const PageMapping& page, const PhysicalMemory::Window* window) {
  if (!window) return;
  Tlb& tlb = core.tlb;
  FetchEntry& entry = tlb.fetch_at(user, linear);
  const u64 before = entry.frame;
  const GuestAddr gpa = page.gpa & kPageMask;
  entry = {linear & kPageMask, gpa, window->host + (gpa - window->base), mapping_bits(page)};
  note_large(tlb, linear, page);
  list(tlb, kDataPlaces + user * Tlb::kFetchEntries + Tlb::fetch_index(linear), entry.frame, before);
}

namespace {

/// The first level's entries of the current space.
void forget_space(Core& core) {
  ++core.stats.tlb_flushes;
  translate::flush_jumps(core, true);
  drop_list(core.tlb, false);
  core.tlb.walks.clear();
}

void forget_page(Core& core, u64 linear) {
  Tlb& tlb = core.tlb;
  const bool large = may_be_large(tlb, linear);
  translate::flush_jumps_of_page(core, linear, large ? 30 : 12);
  tlb.walks.clear();
  if (large) {
    return clear_entries(tlb, [&](const PlacedEntry& entry) {
      return (entry.tag() ^ linear) >> (entry.frame() & FrameBits::kShift) == 0;
    });
  }
  for (unsigned set = 0; set < kTlbSets; ++set)
    if (TlbEntry& entry = tlb.at(set, linear); (entry.read ^ linear) < kPageSize) clear_tags(entry, Tlb::index(linear));
  for (bool user : {false, true})
    if (FetchEntry& entry = tlb.fetch_at(user, linear); (entry.tag ^ linear) < kPageSize)
      entry.tag = empty_tag(Tlb::fetch_index(linear));
}

}  // namespace

void flush_tlb(Core& core, bool keep_global) {
  forget_space(core);
  if (core.direct) core.direct->drop_all();
  if (keep_global) return core.tlb.second.flush(current_space(core));
  translate::flush_jumps(core, false);
  drop_list(core.tlb, true);
  core.tlb.second.flush_all();
}

void flush_tlb_page(Core& core, u64 linear) {
  if (core.direct) core.direct->drop_page(current_space(core), linear);
  forget_page(core, linear);
  core.tlb.second.flush_page(current_space(core), linear, true);
}

void switch_space(Core& core, bool keep) {
  forget_space(core);
  if (!keep) core.tlb.second.flush(current_space(core));
  if (core.direct) core.direct->space_switched(keep);
}

void flush_space_page(Core& core, u16 space, u64 linear) {
  if (core.direct) core.direct->drop_page(space, linear);
  if (space == current_space(core)) forget_page(core, linear);
  core.tlb.second.flush_page(space, linear, false);
}

void flush_space(Core& core, u16 space) {
  if (space == current_space(core)) forget_space(core);
  if (core.direct) core.direct->drop_space(space);
  core.tlb.second.flush(space);
}

void flush_spaces(Core& core) {
  forget_space(core);
  if (core.direct) core.direct->drop_all();
  core.tlb.second.flush_spaces();
}

void drop_write_tags(Core& core, GuestAddr page) {
  for_data_entries(core.tlb, [&](TlbEntry& entry, u32 index) {
    if (entry.gpa() == (page & kPageMask)) entry.write = empty_tag(index);
  });
  if (core.direct) core.direct->drop_written_code();
}

void drop_all_write_tags(Core& core) {
  for_data_entries(core.tlb, [](TlbEntry& entry, u32 index) { entry.write = empty_tag(index); });
  if (core.direct) core.direct->drop_written_code();
}

void update_access_set(Core& core) {
  bool ac = core.other_flags & kAC;
  if (core.user()) core.tlb.data_set = ac && (core.cr0 & kCr0AM) ? kAlignedSet : kUserSet;
  else core.tlb.data_set = ac && (core.cr4 & kCr4SMAP) ? kSmapOpenSet : kSupervisorSet;
  translate::update_translate_mode(core);
}

void adopt_memory_map(Core& core) {
  core.tlb.map_generation = core.vm->memory->generation();
  core.tlb.physical = PhysicalMemory(core.vm->memory->map(core.smm ? memory::View::Smm : memory::View::Normal));
  u32 bits = core.cpuid->query(0x80000008, 0).eax & 0xff;
  core.tlb.physical_bits = static_cast<u8>(bits < 32 || bits > 52 ? 36 : bits);
  core.tlb.gib_pages = core.cpuid->query(0x80000001, 0).edx & 1u << 26;
  flush_tlb(core, false);
}

}  // namespace atl::soft
