// Paging-structure caches (SDM vol. 3, section 5.10.3): where walks of the current address space may start further down.
//
// Two levels: by bits 47:21 the table of PTEs, by bits 47:30 the table of PDEs, with the rights that the entries above give.
// PML4 entries are not kept: they save one read. Entries above have their accessed flag set. Anything that invalidates one
// entry invalidates all, as INVLPG must for the current PCID; switching the space does, too.
#pragma once

#include <array>

#include "base/types.h"

namespace atl::soft {

class WalkCache {
 public:
  /// A table of entries of `level` (1: PTEs, 2: PDEs) and the rights on the way to it.
  struct Table {
    GuestAddr at = 0;
    unsigned level = 0;
    bool writable = true, user = true, executable = true;
  };

  /// The lowest table known for `linear`; false: none.
  bool find(u64 linear, Table& out) const {
    return find_in(directories_, linear, 1, out) || find_in(pointers_, linear, 2, out);
  }
  void insert(u64 linear, const Table& table) {
    if (table.level == 1) put(directories_, linear, table);
    else if (table.level == 2) put(pointers_, linear, table);
  }
  void clear() { ++epoch_; }

 private:
  struct Entry {
    u64 key = 0;
    u64 epoch = 0;
    u64 value = 0;
  };
  static constexpr u64 kWritable = 1, kUser = 2, kExecutable = 4;
  static constexpr unsigned shift(unsigned level) { return level == 1 ? 21 : 30; }

  template <size_t N>
  bool find_in(const std::array<Entry, N>& entries, u64 linear, unsigned level, Table& out) const {
    const u64 key = linear >> shift(level);
    const Entry& entry = entries[key % N];
    if (entry.key != key || entry.epoch != epoch_) return false;
    out = {entry.value & ~(kPageSize - 1), level, (entry.value & kWritable) != 0, (entry.value & kUser) != 0, (entry.value & kExecutable) != 0};
    return true;
  }
  template <size_t N>
  void put(std::array<Entry, N>& entries, u64 linear, const Table& table) {
    const u64 key = linear >> shift(table.level);
    entries[key % N] = {key, epoch_,
                        table.at | (table.writable ? kWritable : 0) | (table.user ? kUser : 0) | (table.executable ? kExecutable : 0)};
  }

  u64 epoch_ = 1;
  std::array<Entry, 64> directories_;
  std::array<Entry, 16> pointers_;
};

}  // namespace atl::soft
