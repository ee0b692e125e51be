#include "cpu/soft/mmu/tlb.h"

#include "cpu/soft/mmu/access.h"
#include "cpu/soft/mmu/fill.h"
#include "cpu/soft/system/debug.h"

namespace atl::soft {
namespace {

constexpr u64 kPageMask = ~u64{0xfff};

TlbEntry& listed_entry(Tlb& tlb, u16 place) { return tlb.entries[place / Tlb::kEntries][place % Tlb::kEntries]; }

void list(Tlb& tlb, TlbSet set, u64 linear) {
  TlbEntry& entry = tlb.at(set, linear);
  if (entry.listed) return;
  entry.listed = true;
  tlb.filled[tlb.filled_count++] = static_cast<u16>(set * Tlb::kEntries + Tlb::index(linear));
}

/// Clears and unlists the entries for which `drop` holds.
template <class F>
void drop_entries(Tlb& tlb, F drop) {
  u32 kept = 0;
  for (u32 i = 0; i < tlb.filled_count; ++i) {
    TlbEntry& entry = listed_entry(tlb, tlb.filled[i]);
    if (drop(entry)) {
      entry.clear_tags();
      entry.listed = false;
    } else {
      tlb.filled[kept++] = tlb.filled[i];
    }
  }
  tlb.filled_count = kept;
}

u64 tagged_page(const TlbEntry& entry) {
  if (entry.read != TlbEntry::kNoTag) return entry.read;
  return entry.write != TlbEntry::kNoTag ? entry.write : entry.fetch;
}

}  // namespace

const PhysicalMemory::Window* PhysicalMemory::find_slot(GuestAddr at, u64 size) {
  const memory::AddressMap::Slot* slot = map_ ? map_->find(at) : nullptr;
  if (!slot || !slot->region->ram || slot->size - (at - slot->base) < size) return nullptr;
  const memory::Region& region = *slot->region;
  window_ = {slot->base, slot->size, region.ram->data() + region.ram_offset + slot->region_offset, region.readonly};
  return &window_;
}

void fill_tlb(Core& core, TlbSet set, u64 linear, const Translation& page, const PhysicalMemory::Window* window) {
  if (!window) return;
  Tlb& tlb = core.tlb;
  TlbEntry& entry = tlb.at(set, linear);
  const u64 tag = linear & kPageMask;
  const GuestAddr gpa = page.gpa & kPageMask;
  const bool watched = page_has_data_breakpoint(core, linear);
  auto allowed = [&](Access access) { return access_allowed(core, page, set, access); };
  entry.clear_tags();
  if (!watched && allowed(Access::Read)) entry.read = tag;
  bool writable = page.dirty && !window->readonly && !core.vm->code.holds_code(gpa);
  if (!watched && writable && allowed(Access::Write)) entry.write = tag;
  if (allowed(Access::Fetch)) entry.fetch = tag;
  entry.addend = reinterpret_cast<u64>(window->host + (gpa - window->base)) - tag;
  entry.gpa = gpa;
  entry.page_shift = page.page_shift;
  entry.global = page.global;
  if (page.page_shift > 12) tlb.has_large[linear >> 63] = true;
  list(tlb, set, linear);
}

void flush_tlb(Core& core, bool keep_global) {
  ++core.stats.tlb_flushes;
  drop_entries(core.tlb, [&](const TlbEntry& entry) { return !keep_global || !entry.global; });
  if (!keep_global) core.tlb.has_large = {};
}

void flush_tlb_page(Core& core, u64 linear) {
  if (core.tlb.has_large[linear >> 63]) {
    drop_entries(core.tlb, [&](const TlbEntry& entry) { return (tagged_page(entry) ^ linear) >> entry.page_shift == 0; });
    return;
  }
  for (unsigned set = 0; set < kTlbSets; ++set)
    if (TlbEntry& entry = core.tlb.at(set, linear); entry.maps(linear & kPageMask)) entry.clear_tags();
}

void drop_write_tags(Core& core, GuestAddr page) {
  for (u32 i = 0; i < core.tlb.filled_count; ++i)
    if (TlbEntry& entry = listed_entry(core.tlb, core.tlb.filled[i]); entry.gpa == (page & kPageMask))
      entry.write = TlbEntry::kNoTag;
}

void drop_all_write_tags(Core& core) {
  for (u32 i = 0; i < core.tlb.filled_count; ++i) listed_entry(core.tlb, core.tlb.filled[i]).write = TlbEntry::kNoTag;
}

void update_access_set(Core& core) {
  bool ac = core.other_flags & kAC;
  if (core.user()) core.tlb.data_set = ac && (core.cr0 & kCr0AM) ? kAlignedSet : kUserSet;
  else core.tlb.data_set = ac && (core.cr4 & kCr4SMAP) ? kSmapOpenSet : kSupervisorSet;
}

void adopt_memory_map(Core& core) {
  core.tlb.map_generation = core.vm->memory->generation();
  core.tlb.physical = PhysicalMemory(core.vm->memory->map());
  u32 bits = core.cpuid->query(0x80000008, 0).eax & 0xff;
  core.tlb.physical_bits = static_cast<u8>(bits < 32 || bits > 52 ? 36 : bits);
  core.tlb.gib_pages = core.cpuid->query(0x80000001, 0).edx & 1u << 26;
  flush_tlb(core, false);
}

}  // namespace atl::soft
