// The software TLB's first level: linear page to host memory, per kind of privilege, with a tag for each kind of access.
//
// The check, in C++ here and inline in translated code, for an access of `size` bytes at `linear`:
//
//   entry  = table[linear >> 12 & kEntries - 1]       (shift and mask: sizeof(TlbEntry) is a power of two)
//   offset = linear ^ entry.read                      (or write)
//   hit    = offset <= 4096 - size                    (unsigned: the right page, and not across its end)
//   host   = entry.host + offset
//
// A tag is the address of a linear page. An empty tag is an address whose page has another index, so that none of the 2^64
// linear addresses that select the entry, canonical or not, can hit it.
#pragma once

#include <array>
#include <memory>

#include "base/types.h"
#include "cpu/soft/mmu/second_level.h"
#include "cpu/soft/mmu/walk_cache.h"
#include "memory/address_space.h"

namespace atl::soft {

struct Core;

/// What no address that selects entry `index` can hit.
constexpr u64 empty_tag(u64 index) { return index == 0 ? kPageSize : 0; }

/// Data accesses. The tag for an access is there if it is allowed straight to host memory. Pages of MMIO, ROM (for writes),
/// pages that hold decoded code (for writes), pages not yet dirty (for writes) and pages with a data breakpoint have no tag
/// for that access and take the slow path. Where `write` is set `read` is the same tag: a read-modify-write looks at `write`
/// alone.
struct alignas(32) TlbEntry {
  u64 read = 0;
  u64 write = 0;
  u64 host = 0;         // host address of the page
  u64 frame = 0;        // guest physical address of the page; below it FrameBits

  GuestAddr gpa() const { return frame & ~(kPageSize - 1); }
};
static_assert(sizeof(TlbEntry) == 32);

/// Instruction fetches; the interpreter's branches and the translator's lookups compare with these.
struct alignas(32) FetchEntry {
  u64 tag = 0;
  GuestAddr gpa = 0;    // of the page
  const u8* host = nullptr;
  u64 frame = 0;        // as TlbEntry's

  /// Whether `linear` is the address of `at`, a guest physical address.
  bool maps(u64 linear, GuestAddr at) const { return (linear ^ tag) < kPageSize && (gpa | (linear & (kPageSize - 1))) == at; }
};
static_assert(sizeof(FetchEntry) == 32);

/// Low bits of an entry's `frame`.
struct FrameBits {
  static constexpr u64 kShift = 0x3f;         // of the guest's page, which may be larger than the entry
  static constexpr u64 kGlobal = 1 << 6;
  static constexpr u64 kListedLocal = 1 << 7;   // in the list of entries that CR3 writes drop
  static constexpr u64 kListedGlobal = 1 << 8;  // in the list of the others
};

/// Who accesses. Every entry's rights hold for one of these, so that a change of CPL or AC just selects another set.
enum TlbSet : u8 {
  kSupervisorSet,  // CPL 0-2, and the processor's own accesses; under SMAP not to user pages
  kUserSet,        // CPL 3
  kSmapOpenSet,    // CPL 0-2 with EFLAGS.AC under SMAP: user pages too
  kAlignedSet,     // CPL 3 with alignment checks: never filled, so that each access takes the slow path
  kTlbSets,
};

/// The guest's RAM as seen from the newest map, with the last slot hit.
class PhysicalMemory {
 public:
  PhysicalMemory() = default;
  explicit PhysicalMemory(std::shared_ptr<const memory::AddressMap> map) : map_(std::move(map)) {}
  struct Window {
    GuestAddr base = 0;
    u64 size = 0;
    u8* host = nullptr;
    bool readonly = false;
  };
  /// The slot of RAM or ROM that holds all `size` bytes from `at`, or nullptr. Valid until the next call.
  const Window* find(GuestAddr at, u64 size) {
    if (at - window_.base < window_.size && window_.size - (at - window_.base) >= size) [[likely]] return &window_;
    return find_slot(at, size);
  }

 private:
  const Window* find_slot(GuestAddr at, u64 size);

  std::shared_ptr<const memory::AddressMap> map_;  // keeps the host memory that entries point to
  Window window_;
};

struct Tlb {
  static constexpr u32 kIndexBits = 12, kEntries = 1u << kIndexBits;  // of a set
  static constexpr u32 kFetchEntries = 1024;                          // for each of supervisor and user
  static constexpr u32 index(u64 linear) { return static_cast<u32>(linear >> 12) & (kEntries - 1); }
  static constexpr u32 fetch_index(u64 linear) { return static_cast<u32>(linear >> 12) & (kFetchEntries - 1); }

  Tlb();
  TlbEntry& at(unsigned set, u64 linear) { return entries[set][index(linear)]; }
  FetchEntry& fetch_at(bool user, u64 linear) { return fetch_entries[user][fetch_index(linear)]; }

  std::array<std::array<TlbEntry, kEntries>, kTlbSets> entries;
  std::array<std::array<FetchEntry, kFetchEntries>, 2> fetch_entries;
  u8 data_set = kSupervisorSet;  // for data accesses of the current code; update_access_set() keeps it

  /// Places of entries that may hold tags, so that a flush touches only them: data entries of all sets, then fetch entries.
  static constexpr u32 kPlaces = kTlbSets * kEntries + 2 * kFetchEntries;
  struct PlaceList {
    std::array<u16, kPlaces> places;
    u32 count = 0;
  };
  PlaceList local, global;
  /// A hash of the larger pages of which some entry is a part, by the linear address' top bit and for the two lists.
  std::array<std::array<u64, 2>, 2> large_pages{};

  SecondLevel second;
  WalkCache walks;

  // What walks depend on besides the registers.
  std::array<u64, 4> pdpte{};       // PAE: loaded with CR3
  u8 physical_bits = 40;
  bool gib_pages = false;
  u64 map_generation = 0;           // of the memory map behind `physical`; 0: none yet
  PhysicalMemory physical;
};

}  // namespace atl::soft
