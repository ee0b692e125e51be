// The TLB's second level: what walks found, by address space (SDM vol. 3, section 5.10).
//
// It knows nothing of rights and host memory: whoever refills the first level checks anew whether the access is allowed. So
// one entry serves all privileges, survives the marking of code pages, and large pages stay large here. An entry that is not
// enough for an access is never the reason of a fault: a walk decides.
//
// Address spaces (PCIDs, 0 without CR4.PCIDE) and the set of global pages have an epoch each, a number used once. A key holds
// the page number and its space's epoch; to flush a space is to give it another epoch. Own thread.
#pragma once

#include <array>

#include "base/types.h"

namespace atl::soft {

/// A page as a walk found it.
struct PageMapping {
  GuestAddr gpa = 0;  // of the linear address asked for
  u8 page_shift = 12;
  bool user = true;
  bool writable = true;
  bool executable = true;
  bool dirty = true;
  bool global = false;
};

class SecondLevel {
 public:
  static constexpr u32 kSpaces = 4096;

  /// False: not here. `linear` is canonical.
  bool find(u16 space, u64 linear, PageMapping& out) const;
  void insert(u16 space, u64 linear, const PageMapping& page);

  /// Drops what is not global of one space or of all of them, or everything.
  void flush(u16 space) { epochs_[space] = 0; }
  void flush_spaces();
  void flush_all();
  /// Drops what translates `linear` in this space and, if `global`, as a global page.
  void flush_page(u16 space, u64 linear, bool global);

 private:
  struct Entry {
    u64 key = 0;
    u64 value = 0;   // guest physical address of the page or 2 MiB piece, rights below it
  };
  static constexpr unsigned kWays = 4, kEpochBits = 28, kLargeShift = 21;
  static constexpr u32 kSmallSets = 1024, kLargeSets = 64;
  struct alignas(64) Set {
    std::array<Entry, kWays> ways;
  };

  static u64 key(u64 linear, u32 epoch) { return (linear >> 12) << kEpochBits | epoch; }
  Set& set_of(u64 linear, u32 epoch, bool large);
  const Set& set_of(u64 linear, u32 epoch, bool large) const { return const_cast<SecondLevel*>(this)->set_of(linear, epoch, large); }
  const Entry* find_entry(u64 linear, u32 epoch) const;
  void put(Set& set, const Entry& entry);
  void drop(u64 linear, u32 epoch);
  void drop_gib_page(u64 linear, u32 epoch);
  u32 fresh_epoch();

  std::array<u32, kSpaces> epochs_{};   // 0: none yet, no entry has it
  u32 global_epoch_ = 0;
  u32 last_epoch_ = 0;
  u32 victim_ = 0;
  bool has_gib_pages_ = false;          // or 4 MiB pages: pages of more than one piece
  std::array<Set, kSmallSets> small_;
  std::array<Set, kLargeSets> large_;
};

}  // namespace atl::soft
