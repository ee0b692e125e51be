#include "cpu/soft/translate/jump_cache.h"

#include <bit>

namespace atl::soft::translate {
namespace {

u64 filter_bit(u64 rip) { return u64{1} << ((rip >> 12 ^ rip >> 18 ^ rip >> 24) & 63); }

/// Visits the indexes of all entries in use, and perhaps others.
template <class F>
void for_used(const Core& core, unsigned mode, F visit) {
  const JumpList& used = core.jump_lists[mode];
  const bool known = used.count <= used.places.size();
  for (u32 i = 0, n = known ? used.count : kJumpEntries; i < n; ++i) visit(known ? used.places[i] : i);
}

void clear_table(Core& core, unsigned mode) {
  for_used(core, mode, [&](u32 i) { core.jump_cache[mode][i] = {empty_rip(i), nullptr}; });
  core.jump_lists[mode].count = 0;
}

template <class F>
void for_tables(u32 tables, F visit) {
  for (; tables; tables &= tables - 1) visit(static_cast<unsigned>(std::countr_zero(tables)));
}

}  // namespace

void set_up_jumps(Core& core, Mode mode) {
  if (core.jump_tables >> mode & 1) return;
  for (unsigned set = 0; set < kTlbSets; ++set) {
    const unsigned other = (mode & ~(3u << kModeSetShift)) | set << kModeSetShift;
    core.jump_cache[other][0].rip = empty_rip(0);
    core.jump_tables |= u32{1} << other;
  }
}

void add_jump(Core& core, Mode mode, u64 rip, const void* code, bool global) {
  if (!global) core.jump_tables_local |= u32{1} << mode;
  core.jump_pages |= filter_bit(rip);
  JumpEntry& entry = jump_entry(core, mode, rip);
  JumpList& used = core.jump_lists[mode];
  if (!entry.code && used.count <= used.places.size()) {
    if (used.count < used.places.size()) used.places[used.count] = static_cast<u16>(jump_index(rip));
    ++used.count;
  }
  entry = {rip, code};
}

void flush_jumps(Core& core, bool keep_global) {
  for_tables(keep_global ? core.jump_tables_local : core.jump_tables, [&](unsigned mode) { clear_table(core, mode); });
  core.jump_tables_local = 0;
  if (!keep_global) core.jump_pages = 0;
}

void flush_jumps_of_page(Core& core, u64 linear, unsigned page_shift) {
  if (page_shift > 12) return flush_jumps(core, false);
  if (!(core.jump_pages & filter_bit(linear))) return;
  for_tables(core.jump_tables, [&](unsigned mode) {
    for_used(core, mode, [&](u32 i) {
      JumpEntry& entry = core.jump_cache[mode][i];
      if (entry.code && (entry.rip ^ linear) >> 12 == 0) entry = {empty_rip(i), nullptr};
    });
  });
}

}  // namespace atl::soft::translate
