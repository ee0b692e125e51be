// Reading and writing guest memory by linear address: the fast path inline, everything else in access.cc.
//
// All return false after recording a fault in the core (#PF, or for non-canonical addresses nothing: callers check that
// with segment checks first). `linear` has been through segmentation. Privilege is core.cpl unless a function says system.
#pragma once

#include <cstring>

#include "cpu/soft/core.h"
#include "cpu/soft/soft_vm.h"

namespace atl::soft {

enum class Access : u8 { Read, Write, Fetch };

/// Slow path, any size from 1 to 64 bytes, any alignment: walks, crosses pages, reaches MMIO.
bool read_slow(Core& core, u64 linear, void* out, unsigned size);
bool write_slow(Core& core, u64 linear, const void* data, unsigned size);

/// Host pointer for an access that lies in one page of RAM and is allowed, else nullptr without a fault.
inline u8* fast_host(Core& core, u64 linear, unsigned size, Access access) {
  const TlbEntry& e = core.tlb.at(core.tlb.data_set, linear);
  u64 offset = linear ^ (access == Access::Write ? e.write : e.read);
  if (offset > kPageSize - size) [[unlikely]] return nullptr;
  return reinterpret_cast<u8*>(e.host + offset);
}

template <class T>
bool read_mem(Core& core, u64 linear, T& out) {
  if (u8* host = fast_host(core, linear, sizeof(T), Access::Read)) [[likely]] {
    std::memcpy(&out, host, sizeof(T));
    return true;
  }
  return read_slow(core, linear, &out, sizeof(T));
}

template <class T>
bool write_mem(Core& core, u64 linear, T value) {
  if (u8* host = fast_host(core, linear, sizeof(T), Access::Write)) [[likely]] {
    std::memcpy(host, &value, sizeof(T));
    return true;
  }
  return write_slow(core, linear, &value, sizeof(T));
}

/// Checks that a write of `size` bytes would succeed (sets A and D as the write would); faults otherwise.
bool probe_write(Core& core, u64 linear, unsigned size);
bool probe_read(Core& core, u64 linear, unsigned size);

/// Host pointer for a read-modify-write that must be atomic. nullptr with fault_pending: it faulted. nullptr without: MMIO,
/// a page crossing or a page with code; the caller then does read, compute, write under SoftVm::atomic_fallback.
u8* host_for_atomic(Core& core, u64 linear, unsigned size);

/// Accesses made by the processor itself (descriptor tables, TSS, stack of an interrupt): supervisor privilege, whatever
/// CPL is. Fault as usual.
bool system_read(Core& core, u64 linear, void* out, unsigned size);
bool system_write(Core& core, u64 linear, const void* data, unsigned size);
/// Accesses of code that is about to run at another privilege: the stack of a far transfer or of an event's handler.
bool read_as(Core& core, bool user, u64 linear, void* out, unsigned size);
bool write_as(Core& core, bool user, u64 linear, const void* data, unsigned size);
bool probe_write_as(Core& core, bool user, u64 linear, unsigned size);

/// Longest run of bytes from `linear` to its page's end that `access` may touch directly, for string instructions: host
/// pointer and the number of bytes, or nullptr (no fault recorded): go element by element.
struct HostRun {
  u8* host = nullptr;
  u64 bytes = 0;
};
HostRun host_run(Core& core, u64 linear, Access access);

/// Instruction fetch: physical page and host memory of the page at `linear`; false after a fault. Pages that are not RAM
/// give host == nullptr: the caller reads through the bus (`fetch_slow`).
struct FetchPage {
  GuestAddr gpa = 0;
  const u8* host = nullptr;
};
bool fetch_page(Core& core, u64 linear, FetchPage& out);
/// Copies up to `size` bytes for the decoder from a page that may be MMIO.
void fetch_slow(Core& core, GuestAddr gpa, void* out, unsigned size);

/// What a user-mode access finds, with A and D set as it would; false after raising its #PF.
bool translate_user_page(Core& core, u64 linear, Access access, PageMapping& out);

/// Linear to physical without faulting or setting A/D bits, for the debugger and the monitor.
bool debug_translate(const Core& core, u64 linear, GuestAddr& out);

/// The address space that CR3 selects: its PCID, or 0 if there are none.
inline u16 current_space(const Core& core) { return core.cr4 & kCr4PCIDE ? core.cr3 & 0xfff : 0; }

// Invalidation, both levels and the paging-structure caches (SDM vol. 3, section 5.10.4).
/// The current address space's translations, or those of all spaces with the global ones.
void flush_tlb(Core& core, bool keep_global);
/// Those of the page at `linear` in the current space, global ones included.
void flush_tlb_page(Core& core, u64 linear);
/// After CR3 changed: forgets the old space in the first level and, unless `keep`, what is known of the new one.
void switch_space(Core& core, bool keep);
/// As INVPCID: one address of a space, a space, all spaces; global pages stay.
void flush_space_page(Core& core, u16 space, u64 linear);
void flush_space(Core& core, u16 space);
void flush_spaces(Core& core);
/// Drops the write tags that point to a guest page (it holds code now).
void drop_write_tags(Core& core, GuestAddr page);
void drop_all_write_tags(Core& core);

/// Selects the TLB set for data accesses after CPL, EFLAGS.AC, CR0.AM or CR4.SMAP changed.
void update_access_set(Core& core);

/// Takes up a new memory map and flushes. sync_memory_map() is for after anything that may have changed the map: a write to
/// a port or an MMIO register (BARs, shadowed ROM), and kAttendTlb.
void adopt_memory_map(Core& core);
inline void sync_memory_map(Core& core) {
  if (core.vm->memory->generation() != core.tlb.map_generation) [[unlikely]] adopt_memory_map(core);
}

/// After a device was reached: what it asks of this very vCPU comes before the next instruction, not at the end of the block.
inline void leave_if_wanted(Core& core) {
  if (core.attention.load(std::memory_order_relaxed) & ~u32{kAttendMode}) core.leave_block = true;
}

}  // namespace atl::soft
