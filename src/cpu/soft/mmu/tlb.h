// The software TLB: linear page to host memory, per kind of privilege, with separate tags for read, write and fetch.
#pragma once

#include <array>
#include <memory>

#include "base/types.h"
#include "memory/address_space.h"

namespace atl::soft {

struct Core;

/// A tag is the linear page address (low 12 bits zero) if the access is allowed straight to host memory, else kNoTag.
/// Pages of MMIO, ROM (for writes), pages that hold decoded code (for writes), pages not yet dirty (for writes) and pages
/// with a data breakpoint have no tag for that access and take the slow path.
struct alignas(64) TlbEntry {  // one cache line, and an index that is a mask and a shift
  static constexpr u64 kNoTag = 1;  // never equal to a page address
  u64 read = kNoTag;
  u64 write = kNoTag;
  u64 fetch = kNoTag;
  u64 addend = 0;       // host address = linear + addend
  GuestAddr gpa = 0;    // of the page
  u8 page_shift = 12;   // of the guest's page, which may be larger than the entry
  bool global = false;
  bool listed = false;  // in Tlb::filled

  bool maps(u64 page) const { return read == page || write == page || fetch == page; }
  void clear_tags() { read = write = fetch = kNoTag; }
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
  static constexpr u32 kEntries = 2048;  // a set, direct-mapped by the low bits of the page number
  static u32 index(u64 linear) { return static_cast<u32>(linear >> 12) & (kEntries - 1); }
  TlbEntry& at(unsigned set, u64 linear) { return entries[set][index(linear)]; }

  u8 data_set = kSupervisorSet;  // for data accesses of the current code; update_access_set() keeps it
  std::array<std::array<TlbEntry, kEntries>, kTlbSets> entries;

  // Which entries may hold tags, so that a flush touches only them.
  std::array<u16, kTlbSets * kEntries> filled;
  u32 filled_count = 0;
  std::array<bool, 2> has_large{};  // by the linear address' top bit: some entry is part of a larger page

  // What walks depend on besides the registers.
  std::array<u64, 4> pdpte{};       // PAE: loaded with CR3
  u8 physical_bits = 40;
  bool gib_pages = false;
  u64 map_generation = 0;           // of the memory map behind `physical`; 0: none yet
  PhysicalMemory physical;
};

}  // namespace atl::soft
