#include "cpu/soft/mmu/access.h"

#include <algorithm>
#include <bit>

#include "cpu/soft/exec/address.h"
#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/mmu/fill.h"
#include "cpu/soft/mmu/walk.h"
#include "cpu/soft/system/debug.h"

namespace atl::soft {
namespace {

constexpr u64 kPageMask = ~u64{0xfff};

/// Where a piece of an access within one page goes: host memory, or the bus.
struct Target {
  u8* host = nullptr;      // of the first byte; nullptr: not RAM
  GuestAddr gpa = 0;
  bool readonly = false;   // ROM
  bool code = false;       // blocks were decoded from this page
};

bool raise_page_fault(Core& core, u64 linear, u32 error) {
  core.raise(kPFault, error);
  core.fault.address = linear;
  return false;
}

bool translate_or_raise(Core& core, u64 linear, Access access, TlbSet set, PageMapping& page) {
  Tlb& tlb = core.tlb;
  const u16 space = current_space(core);
  if (tlb.second.find(space, linear, page) && access_allowed(core, page, set, access) &&
      (access != Access::Write || page.dirty)) [[likely]]
    return true;
  ++core.stats.page_walks;
  u32 error = 0;
  if (!walk(core, tlb.physical, &tlb.walks, linear, {.set = set, .access = access}, page, error)) {
    tlb.second.flush_page(space, linear, true);  // as a page fault does
    return raise_page_fault(core, linear, error);
  }
  if (core.paging) tlb.second.insert(space, linear, page);
  return true;
}

/// Entries for aligned accesses of CPL 3 are the ones of CPL 3; kAlignedSet itself stays empty.
TlbSet filled_set(unsigned set) { return set == kAlignedSet ? kUserSet : static_cast<TlbSet>(set); }

bool resolve_data(Core& core, u64 linear, Access access, TlbSet set, Target& out) {
  const TlbEntry& entry = core.tlb.at(set, linear);
  u64 offset = linear ^ (access == Access::Write ? entry.write : entry.read);
  if (offset < kPageSize) {
    out = {reinterpret_cast<u8*>(entry.host + offset), entry.gpa() | offset};
    return true;
  }
  PageMapping page;
  if (!translate_or_raise(core, linear, access, set, page)) return false;
  const PhysicalMemory::Window* window = core.tlb.physical.find(page.gpa & kPageMask, kPageSize);
  fill_tlb(core, set, linear, page, window);
  out = {.gpa = page.gpa};
  if (!window) return true;
  out.host = window->host + (page.gpa - window->base);
  out.readonly = window->readonly;
  out.code = access == Access::Write && core.vm->code.holds_code(page.gpa);
  return true;
}

/// Start of the page after `linear`'s; outside 64-bit code linear addresses wrap at 4 GiB.
u64 next_page(const Core& core, u64 linear) {
  u64 next = (linear & kPageMask) + kPageSize;
  return next == u64{1} << 32 && core.code_size != CodeSize::k64 ? 0 : next;
}

/// An access cut at a page boundary.
struct Pieces {
  Target first, second;
  unsigned first_size = 0, second_size = 0;
};

bool resolve_pieces(Core& core, u64 linear, unsigned size, Access access, TlbSet set, Pieces& out) {
  sync_memory_map(core);
  out.first_size = static_cast<unsigned>(std::min<u64>(size, kPageSize - (linear & 0xfff)));
  out.second_size = size - out.first_size;
  if (!resolve_data(core, linear, access, set, out.first)) return false;
  return !out.second_size || resolve_data(core, next_page(core, linear), access, set, out.second);
}

/// Copies that fit a register are one access, as other vCPUs may watch.
void copy_bytes(void* to, const void* from, unsigned size) {
  switch (size) {
    case 1: std::memcpy(to, from, 1); break;
    case 2: std::memcpy(to, from, 2); break;
    case 4: std::memcpy(to, from, 4); break;
    case 8: std::memcpy(to, from, 8); break;
    default: std::memcpy(to, from, size);
  }
}

/// Calls piece(offset, width) for pieces of 8, 4, 2 and 1 bytes.
template <class F>
void for_bus_pieces(unsigned size, F piece) {
  for (unsigned done = 0; done < size;) {
    unsigned left = size - done;
    unsigned width = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    piece(done, width);
    done += width;
  }
}

void bus_read(Core& core, GuestAddr gpa, void* out, unsigned size) {
  for_bus_pieces(size, [&](unsigned offset, unsigned width) {
    u64 value = 0;
    ++core.stats.mmio;
    if (!apic_read(core, gpa + offset, width, value)) value = core.memory_bus->read(gpa + offset, width);
    std::memcpy(static_cast<u8*>(out) + offset, &value, width);
  });
  leave_if_wanted(core);
}

void bus_write(Core& core, GuestAddr gpa, const void* data, unsigned size) {
  for_bus_pieces(size, [&](unsigned offset, unsigned width) {
    u64 value = 0;
    std::memcpy(&value, static_cast<const u8*>(data) + offset, width);
    ++core.stats.mmio;
    if (!apic_write(core, gpa + offset, width, value)) core.memory_bus->write(gpa + offset, value, width);
  });
  leave_if_wanted(core);
}

void read_target(Core& core, const Target& target, void* out, unsigned size) {
  if (target.host) copy_bytes(out, target.host, size);
  else bus_read(core, target.gpa, out, size);
}

void write_target(Core& core, const Target& target, const void* data, unsigned size) {
  if (!target.host) return bus_write(core, target.gpa, data, size);
  if (target.readonly) return bus_write(core, target.gpa, data, size);  // ROM ignores it, flash takes commands
  copy_bytes(target.host, data, size);
  if (!target.code) return;
  core.vm->code.wrote(target.gpa, size);
  core.leave_block = true;
}

/// What fast_host() is for accesses of another set than the current code's.
u8* host_in_set(Core& core, TlbSet set, u64 linear, unsigned size, Access access) {
  const TlbEntry& entry = core.tlb.at(set, linear);
  const u64 offset = linear ^ (access == Access::Write ? entry.write : entry.read);
  return offset <= kPageSize - size ? reinterpret_cast<u8*>(entry.host + offset) : nullptr;
}

bool read_in_set(Core& core, TlbSet set, u64 linear, void* out, unsigned size) {
  if (const u8* host = host_in_set(core, set, linear, size, Access::Read)) [[likely]] {
    copy_bytes(out, host, size);
    return true;
  }
  Pieces pieces;
  if (!resolve_pieces(core, linear, size, Access::Read, set, pieces)) return false;
  read_target(core, pieces.first, out, pieces.first_size);
  if (pieces.second_size) read_target(core, pieces.second, static_cast<u8*>(out) + pieces.first_size, pieces.second_size);
  return true;
}

bool write_in_set(Core& core, TlbSet set, u64 linear, const void* data, unsigned size) {
  if (u8* host = host_in_set(core, set, linear, size, Access::Write)) [[likely]] {
    copy_bytes(host, data, size);
    return true;
  }
  Pieces pieces;
  if (!resolve_pieces(core, linear, size, Access::Write, set, pieces)) return false;
  write_target(core, pieces.first, data, pieces.first_size);
  if (pieces.second_size)
    write_target(core, pieces.second, static_cast<const u8*>(data) + pieces.first_size, pieces.second_size);
  sync_memory_map(core);  // the write may have moved a BAR
  return true;
}

/// SDM vol. 3, section 7.15, interrupt 17: CR0.AM, EFLAGS.AC, CPL 3. Comes after page faults. Operands of 16 bytes and more
/// have checks of their own.
bool check_alignment(Core& core, u64 linear, unsigned size) {
  if (core.tlb.data_set != kAlignedSet) return true;
  if (std::has_single_bit(size) && size <= 8 && (linear & (size - 1))) return core.raise(kACheck, 0);
  return true;
}

void note_data_breakpoints(Core& core, u64 linear, unsigned size, bool write) {
  u64 hits = data_breakpoints(core, linear, size, write);
  if (!hits) return;
  core.debug_hits |= hits;
  core.leave_block = true;
}

bool probe_in_set(Core& core, TlbSet set, u64 linear, unsigned size, Access access) {
  Pieces pieces;
  return resolve_pieces(core, linear, size, access, set, pieces);
}

TlbSet set_of(const Core& core, bool user) {
  if (user) return kUserSet;
  return (core.other_flags & kAC) && (core.cr4 & kCr4SMAP) ? kSmapOpenSet : kSupervisorSet;
}

}  // namespace

bool read_slow(Core& core, u64 linear, void* out, unsigned size) {
  if (core.tlb.data_set == kAlignedSet && !(probe_read(core, linear, size) && check_alignment(core, linear, size)))
    return false;
  if (!read_in_set(core, filled_set(core.tlb.data_set), linear, out, size)) return false;
  note_data_breakpoints(core, linear, size, false);
  return true;
}

bool write_slow(Core& core, u64 linear, const void* data, unsigned size) {
  if (core.tlb.data_set == kAlignedSet && !(probe_write(core, linear, size) && check_alignment(core, linear, size)))
    return false;
  if (!write_in_set(core, filled_set(core.tlb.data_set), linear, data, size)) return false;
  note_data_breakpoints(core, linear, size, true);
  return true;
}

bool probe_write(Core& core, u64 linear, unsigned size) {
  return probe_in_set(core, filled_set(core.tlb.data_set), linear, size, Access::Write);
}

bool probe_read(Core& core, u64 linear, unsigned size) {
  return probe_in_set(core, filled_set(core.tlb.data_set), linear, size, Access::Read);
}

u8* host_for_atomic(Core& core, u64 linear, unsigned size) {
  if (u8* host = fast_host(core, linear, size, Access::Write)) return host;
  Pieces pieces;
  if (!resolve_pieces(core, linear, size, Access::Write, filled_set(core.tlb.data_set), pieces)) return nullptr;
  if (!check_alignment(core, linear, size)) return nullptr;
  if (pieces.second_size || pieces.first.readonly || pieces.first.code) return nullptr;
  if (pieces.first.host) note_data_breakpoints(core, linear, size, true);
  return pieces.first.host;
}

bool system_read(Core& core, u64 linear, void* out, unsigned size) {
  return read_in_set(core, kSupervisorSet, linear, out, size);
}

bool system_write(Core& core, u64 linear, const void* data, unsigned size) {
  return write_in_set(core, kSupervisorSet, linear, data, size);
}

bool read_as(Core& core, bool user, u64 linear, void* out, unsigned size) {
  return read_in_set(core, set_of(core, user), linear, out, size);
}

bool write_as(Core& core, bool user, u64 linear, const void* data, unsigned size) {
  return write_in_set(core, set_of(core, user), linear, data, size);
}

bool probe_write_as(Core& core, bool user, u64 linear, unsigned size) {
  return probe_in_set(core, set_of(core, user), linear, size, Access::Write);
}

HostRun host_run(Core& core, u64 linear, Access access) {
  const u64 bytes = kPageSize - (linear & 0xfff);
  if (u8* host = fast_host(core, linear, 1, access)) return {host, bytes};
  const bool plain = core.tlb.data_set != kAlignedSet && core.vm->memory->generation() == core.tlb.map_generation &&
                     !page_has_data_breakpoint(core, linear);
  if (!plain || (core.code_size == CodeSize::k64 && !is_canonical(linear))) return {};
  Target target;
  const bool found = resolve_data(core, linear, access, static_cast<TlbSet>(core.tlb.data_set), target);
  core.fault_pending = false;
  const bool direct = found && target.host && !target.code && !(target.readonly && access == Access::Write);
  return direct ? HostRun{target.host, bytes} : HostRun{};
}

bool fetch_page(Core& core, u64 linear, FetchPage& out) {
  if (core.code_size == CodeSize::k64 && !is_canonical(linear)) return core.raise(kGP, 0);
  sync_memory_map(core);
  const FetchEntry& entry = core.tlb.fetch_at(core.user(), linear);
  if ((linear ^ entry.tag) < kPageSize) {
    out = {entry.gpa, entry.host};
    return true;
  }
  PageMapping page;
  if (!translate_or_raise(core, linear, Access::Fetch, core.user() ? kUserSet : kSupervisorSet, page)) return false;
  const GuestAddr gpa = page.gpa & kPageMask;
  const PhysicalMemory::Window* window = core.tlb.physical.find(gpa, kPageSize);
  fill_fetch(core, core.user(), linear, page, window);
  out = {gpa, window ? window->host + (gpa - window->base) : nullptr};
  return true;
}

void fetch_slow(Core& core, GuestAddr gpa, void* out, unsigned size) {
  for (unsigned i = 0; i < size; ++i) static_cast<u8*>(out)[i] = static_cast<u8>(core.memory_bus->read(gpa + i, 1));
}

bool translate_user_page(Core& core, u64 linear, Access access, PageMapping& out) {
  return translate_or_raise(core, linear, access, kUserSet, out);
}

bool debug_translate(const Core& core, u64 linear, GuestAddr& out) {
  PhysicalMemory physical(core.vm->memory->map(core.smm ? memory::View::Smm : memory::View::Normal));
  PageMapping page;
  u32 error = 0;
  if (!walk(core, physical, nullptr, linear, {.probe = true}, page, error)) return false;
  out = page.gpa;
  return true;
}

}  // namespace atl::soft
