// Where translated code finds the parts of Core: displacements from RSP.
#pragma once

#include <cstddef>

#include "cpu/soft/core.h"

// Core is no standard-layout type, for which offsetof is conditionally supported: both compilers do.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

namespace atl::soft::translate::layout {

inline constexpr i32 kFlags = offsetof(Core, cc);
inline constexpr i32 kPageRip = offsetof(Core, page_rip);
inline constexpr i32 kAttention = offsetof(Core, attention);
inline constexpr i32 kInterruptRefused = offsetof(Core, interrupt_refused);
inline constexpr i32 kOtherFlags = offsetof(Core, other_flags);
inline constexpr i32 kShadowRip = offsetof(Core, shadow_rip);
inline constexpr i32 kCr4 = offsetof(Core, cr4);
inline constexpr i32 kEfer = offsetof(Core, efer);
inline constexpr i32 kCpl = offsetof(Core, cpl);
inline constexpr i32 kStar = offsetof(Core, msr) + offsetof(Core::Msrs, star);
inline constexpr i32 kLstar = offsetof(Core, msr) + offsetof(Core::Msrs, lstar);
inline constexpr i32 kSfmask = offsetof(Core, msr) + offsetof(Core::Msrs, sfmask);
inline constexpr i32 kTscAux = offsetof(Core, msr) + offsetof(Core::Msrs, tsc_aux);
inline constexpr i32 kTscOffset = offsetof(Core, msr) + offsetof(Core::Msrs, tsc_offset);
constexpr i32 tsc(size_t field) { return static_cast<i32>(offsetof(Core, tsc) + field); }
inline constexpr i32 kKernelGsBase = offsetof(Core, msr) + offsetof(Core::Msrs, kernel_gs_base);
inline constexpr i32 kDataSet = offsetof(Core, tlb) + offsetof(Tlb, data_set);
inline constexpr i32 kTranslateMode = offsetof(Core, translate_mode);
inline constexpr i32 kVectorsLive = offsetof(Core, vectors_live);

constexpr i32 gpr(unsigned n) { return static_cast<i32>(offsetof(Core, gpr) + 8 * n); }
constexpr i32 slot(unsigned n) { return static_cast<i32>(offsetof(Core, slots) + 8 * n); }
/// Slot 0 is for a moment only, the others hold host addresses of windows.
inline constexpr unsigned kWindowSlots = std::tuple_size_v<decltype(Core::slots)> - 1;
constexpr i32 window(unsigned n) { return slot(n + 1); }

constexpr i32 segment(unsigned n, size_t field) { return static_cast<i32>(offsetof(Core, seg) + sizeof(Segment) * n + field); }
constexpr i32 segment_base(unsigned n) { return segment(n, offsetof(Segment, base)); }

/// The data entries of a TLB set: entry 0's field; the others follow at kTlbStride.
inline constexpr u32 kTlbStride = sizeof(TlbEntry);
constexpr i32 tlb(unsigned set, size_t field) {
  return static_cast<i32>(offsetof(Core, tlb) + offsetof(Tlb, entries) + sizeof(TlbEntry) * Tlb::kEntries * set + field);
}
constexpr i32 tlb_tag(unsigned set, bool write) { return tlb(set, write ? offsetof(TlbEntry, write) : offsetof(TlbEntry, read)); }
constexpr i32 tlb_host(unsigned set) { return tlb(set, offsetof(TlbEntry, host)); }

inline constexpr u32 kFetchStride = sizeof(FetchEntry);
constexpr i32 fetch(bool user, size_t field) {
  return static_cast<i32>(offsetof(Core, tlb) + offsetof(Tlb, fetch_entries) + sizeof(FetchEntry) * Tlb::kFetchEntries * user + field);
}

constexpr i32 jump_table(Mode mode) { return static_cast<i32>(offsetof(Core, jump_cache) + sizeof(JumpTable) * mode); }

}  // namespace atl::soft::translate::layout

#pragma GCC diagnostic pop
