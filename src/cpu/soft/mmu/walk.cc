#include "cpu/soft/mmu/walk.h"

#include <atomic>

namespace atl::soft {
namespace {

// Bits of paging-structure entries, the same in all formats.
enum Entry : u64 {
  kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kPageSize = 0x80, kGlobal = 0x100,
};
constexpr u64 kNoExecute = u64{1} << 63;
constexpr u64 kAddress64 = 0x000ffffffffff000;

constexpr u64 bits(unsigned high, unsigned low) { return (~u64{0} >> (63 - high)) & (~u64{0} << low); }

using Table = WalkCache::Table;

/// One walk. Entries are read into `path` first; flags are set after every check has passed.
class Walker {
 public:
  Walker(const Core& core, PhysicalMemory& memory, WalkCache* cache, u64 linear, const WalkOptions& options)
      : core_(core), memory_(memory), cache_(cache), linear_(linear), options_(options) {}

  bool run(PageMapping& out, u32& error) {
    if (!core_.long_mode) cache_ = nullptr;
    // What started from the cache and would fault starts again from the top: a fault reports what the tables say now.
    if (!(cache_ && cache_->find(linear_, start_) && attempt(out))) {
      start_.level = 0;
      // A compare-exchange that loses means that the tables changed under the walk.
      while (!attempt(out)) {
        if (!failed_) continue;
        error = fault_;
        return false;
      }
    }
    for (unsigned i = 0; cache_ && i < passed_count_; ++i) cache_->insert(linear_, passed_[i]);
    return true;
  }

 private:
  struct Step {
    GuestAddr at = 0;
    u64 entry = 0;
    bool leaf = false;
  };

  /// False: a fault if failed_, else the tables changed.
  bool attempt(PageMapping& out) {
    depth_ = passed_count_ = 0;
    failed_ = false;
    if (!descend(out) || !check_rights(out)) return !(failed_ = true);
    return options_.probe || set_flags(out);
  }

  bool descend(PageMapping& out) {
    if (core_.long_mode) return descend64(out, start_.level ? start_ : Table{.at = core_.cr3 & kAddress64, .level = 4});
    if (!(core_.cr4 & kCr4PAE)) return descend32(out);
    u64 pdpte = core_.tlb.pdpte[linear_ >> 30 & 3];
    if (!(pdpte & kPresent)) return fail(0);
    return descend64(out, {.at = pdpte & kAddress64, .level = 2});
  }

  bool descend64(PageMapping& out, Table table) {
    for (;; --table.level) {
      const unsigned level = table.level, shift = 12 + 9 * (level - 1);
      GuestAddr at = table.at + (linear_ >> shift & 0x1ff) * 8;
      u64 entry = read_entry<u64>(at);
      bool leaf = level == 1 || (level < 4 && (entry & kPageSize));
      path_[depth_++] = {at, entry, leaf};
      if (!(entry & kPresent)) return fail(0);
      if (entry & reserved64(level, leaf)) return fail(kPfP | kPfRsvd);
      table.at = entry & kAddress64;
      table.writable &= (entry & kWritable) != 0;
      table.user &= (entry & kUser) != 0;
      table.executable &= !(entry & kNoExecute);
      if (!leaf) {
        passed_[passed_count_++] = {table.at, level - 1, table.writable, table.user, table.executable};
        continue;
      }
      u64 offset = (u64{1} << shift) - 1;
      out = {.gpa = (table.at & ~offset) | (linear_ & offset),
             .page_shift = static_cast<u8>(shift),
             .user = table.user,
             .writable = table.writable,
             .executable = table.executable};
      return take_leaf(entry, out);
    }
  }

  bool descend32(PageMapping& out) {
    GuestAddr at = (core_.cr3 & 0xfffff000) + (linear_ >> 22 & 0x3ff) * 4;
    u64 pde = read_entry<u32>(at);
    bool large = (core_.cr4 & kCr4PSE) && (pde & kPageSize);
    path_[depth_++] = {at, pde, large};
    if (!(pde & kPresent)) return fail(0);
    bool writable = pde & kWritable, user = pde & kUser;
    if (large) {
      if (pde & reserved_pse36()) return fail(kPfP | kPfRsvd);
      GuestAddr base = (pde & 0xffc00000) | (pde >> 13 & 0xff) << 32;
      out = {base | (linear_ & 0x3fffff), 22, user, writable, true, true, false};
      return take_leaf(pde, out);
    }
    at = (pde & 0xfffff000) + (linear_ >> 12 & 0x3ff) * 4;
    u64 pte = read_entry<u32>(at);
    path_[depth_++] = {at, pte, true};
    if (!(pte & kPresent)) return fail(0);
    out = {(pte & 0xfffff000) | (linear_ & 0xfff), 12, user && (pte & kUser), writable && (pte & kWritable), true, true, false};
    return take_leaf(pte, out);
  }

  bool take_leaf(u64 entry, PageMapping& out) {
    out.dirty = (entry & kDirty) || options_.access == Access::Write;
    out.global = (entry & kGlobal) && (core_.cr4 & kCr4PGE);
    return true;
  }

  u64 reserved64(unsigned level, bool leaf) const {
    u64 mask = bits(51, core_.tlb.physical_bits);
    if (core_.tlb.physical_bits >= 52) mask = 0;
    if (!(core_.efer & kEferNXE)) mask |= kNoExecute;
    if (!core_.long_mode) mask |= bits(62, 52);
    if (level == 4 || (level == 3 && !core_.tlb.gib_pages)) mask |= kPageSize;
    if (leaf && level == 3) mask |= bits(29, 13);
    if (leaf && level == 2) mask |= bits(20, 13);
    return mask;
  }

  /// Bits 20:13 hold address bits 39:32 of a 4 MiB page, as far as the processor has them; bit 21 is reserved.
  u64 reserved_pse36() const {
    unsigned width = core_.tlb.physical_bits < 40 ? core_.tlb.physical_bits : 40;
    return bits(21, 13 + (width > 32 ? width - 32 : 0));
  }

  bool check_rights(const PageMapping& page) {
    if (options_.probe || access_allowed(core_, page, options_.set, options_.access)) return true;
    return fail(kPfP);
  }

  bool fail(u32 code) {
    if (options_.access == Access::Write) code |= kPfW;
    if (options_.set == kUserSet || options_.set == kAlignedSet) code |= kPfU;
    bool tells_fetch = (core_.cr4 & kCr4SMEP) || ((core_.cr4 & kCr4PAE) && (core_.efer & kEferNXE));
    if (options_.access == Access::Fetch && tells_fetch) code |= kPfI;
    fault_ = code;
    return false;
  }

  template <class T>
  u64 read_entry(GuestAddr at) {
    const PhysicalMemory::Window* window = memory_.find(at, sizeof(T));
    if (!window) return static_cast<T>(~T{0});
    T* host = reinterpret_cast<T*>(window->host + (at - window->base));
    return std::atomic_ref<T>(*host).load(std::memory_order_acquire);
  }

  /// Sets A on the path and D on a leaf that is written; false if an entry is no longer what was read.
  bool set_flags(const PageMapping&) {
    for (unsigned i = 0; i < depth_; ++i) {
      u64 flags = kAccessed;
      if (path_[i].leaf && options_.access == Access::Write) flags |= kDirty;
      if ((path_[i].entry & flags) == flags) continue;
      bool wide = core_.cr4 & kCr4PAE;
      if (!(wide ? exchange<u64>(path_[i], flags) : exchange<u32>(path_[i], flags))) return false;
    }
    return true;
  }

  template <class T>
  bool exchange(const Step& step, u64 flags) {
    const PhysicalMemory::Window* window = memory_.find(step.at, sizeof(T));
    if (!window || window->readonly) return true;  // tables in ROM keep what they say
    T* host = reinterpret_cast<T*>(window->host + (step.at - window->base));
    T expected = static_cast<T>(step.entry);
    if (!std::atomic_ref<T>(*host).compare_exchange_strong(expected, static_cast<T>(step.entry | flags))) return false;
    if (core_.vm->code.covers(step.at) && core_.vm->code.holds_code(step.at)) core_.vm->code.wrote(step.at, sizeof(T));
    return true;
  }

  const Core& core_;
  PhysicalMemory& memory_;
  WalkCache* cache_;
  const u64 linear_;
  const WalkOptions options_;
  Table start_;                  // level 0: from the top
  std::array<Step, 4> path_;
  unsigned depth_ = 0;
  std::array<Table, 3> passed_;  // the tables met on the way
  unsigned passed_count_ = 0;
  bool failed_ = false;
  u32 fault_ = 0;
};

}  // namespace

bool access_allowed(const Core& core, const PageMapping& page, TlbSet set, Access access) {
  bool user = set == kUserSet || set == kAlignedSet;
  if (user && !page.user) return false;
  if (access == Access::Fetch) return page.executable && !(!user && page.user && (core.cr4 & kCr4SMEP));
  if (set == kSupervisorSet && page.user && (core.cr4 & kCr4SMAP)) return false;
  if (access == Access::Read) return true;
  return page.writable || (!user && !(core.cr0 & kCr0WP));
}

bool walk(const Core& core, PhysicalMemory& memory, WalkCache* cache, u64 linear, const WalkOptions& options, PageMapping& out,
          u32& error) {
  if (!core.paging) {
    out = {.gpa = linear & 0xffffffff};
    return true;
  }
  return Walker(core, memory, cache, linear, options).run(out, error);
}

bool load_pdptes(Core& core, u64 cr3) {
  sync_memory_map(core);
  constexpr u64 kReserved = bits(2, 1) | bits(8, 5);
  u64 mask = kReserved | (core.tlb.physical_bits < 64 ? bits(63, core.tlb.physical_bits) : 0);
  std::array<u64, 4> loaded{};
  const PhysicalMemory::Window* window = core.tlb.physical.find(cr3 & 0xffffffe0, sizeof loaded);
  if (window) std::memcpy(loaded.data(), window->host + ((cr3 & 0xffffffe0) - window->base), sizeof loaded);
  else loaded.fill(~u64{0});
  for (u64 entry : loaded)
    if ((entry & kPresent) && (entry & mask)) return false;
  core.tlb.pdpte = loaded;
  return true;
}

}  // namespace atl::soft
