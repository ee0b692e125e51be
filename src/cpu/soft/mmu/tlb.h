// The software TLB: linear page to host memory, per privilege, with separate tags for read, write and fetch.
#pragma once

#include <array>
#include <memory>

#include "base/types.h"
#include "memory/address_space.h"

namespace atl::soft {

struct Core;

/// A tag is the linear page address (low 12 bits zero) if the access is allowed straight to host memory, else kNoTag.
/// Pages of MMIO, ROM (for writes), pages that hold decoded code (for writes) and pages not yet dirty (for writes) have
/// no tag for that access and take the slow path.
struct TlbEntry {
  static constexpr u64 kNoTag = 1;  // never equal to a page address
  u64 read = kNoTag;
  u64 write = kNoTag;
  u64 fetch = kNoTag;
  u64 addend = 0;       // host address = linear + addend
  GuestAddr gpa = 0;    // of the page
  u16 pcid = 0;
  bool global = false;
};

struct Tlb {
  static constexpr u32 kEntries = 2048;  // per privilege, direct-mapped by a hash of the page number
  static u32 index(u64 linear) {
    u64 page = linear >> 12;
    return static_cast<u32>(page ^ page >> 11) & (kEntries - 1);
  }
  TlbEntry& at(bool user, u64 linear) { return entries[user][index(linear)]; }

  std::array<std::array<TlbEntry, kEntries>, 2> entries;
};

}  // namespace atl::soft
