// Guest offsets to places, through the L1 and L2 tables.
#include <fmt/format.h>

#include <algorithm>

#include "block/format/qcow2/core.h"

namespace atl::block::qcow2 {

L2Entry Core::entry(const Slice& slice, u64 index) const {
  if (geometry().extended_l2) return {slice.word(2 * index), slice.word(2 * index + 1)};
  return {slice.word(index), 0};
}

namespace {

/// Where in the table's slice an entry is.
struct EntryAt {
  u64 slice_offset, index, entries;  // index in the slice, entries of a slice
};

EntryAt locate(const Geometry& g, const Cache& cache, u64 table, u64 offset) {
  const u64 entries = cache.slice_bytes() / g.l2_entry_bytes();
  const u64 index = g.l2_index(offset);
  return {table + index / entries * cache.slice_bytes(), index % entries, entries};
}

bool continues(const Run& run, const Extent& next, u64 next_host) {
  if (next.kind != run.kind || next.placed != run.placed || next.copied != run.copied) return false;
  return !run.placed || next_host == run.host + run.bytes;
}

}  // namespace

/// How many entries after the one at `at` go on like it: all flags the same, the place `step` bytes further on.
static u64 plain_row(const Slice& slice, EntryAt at, u64 word, u64 step, u64 most) {
  u64 n = 0;
  while (n < most && at.index + n + 1 < at.entries && slice.word(at.index + n + 1) == (word += step)) ++n;
  return n;
}

/// Reads a run off a slice of an L2 table.
static Result<Run> run_from(const Core& core, const Slice& slice, EntryAt at, u64 offset, u64 limit) {
  const Geometry& g = core.geometry();
  const u64 in_unit = offset & (g.unit_bytes() - 1);
  u32 unit = g.unit_of(offset);
  L2Entry entry = core.entry(slice, at.index);
  Extent first = decode_l2(entry, unit, g.extended_l2, core.external());
  if (first.kind == Extent::Invalid)
    return core.corrupt(fmt::format("invalid L2 entry {:#x} with bitmap {:#x} at offset {:#x}", entry.word, entry.bitmap,
                                    offset));
  if (g.in_cluster(first.host))
    return core.corrupt(fmt::format("data cluster offset {:#x} is not aligned (at guest offset {:#x})", first.host, offset));
  Run run{first.kind, first.placed, first.copied, first.placed ? first.host + g.in_cluster(offset) : 0,
          g.unit_bytes() - in_unit, {}};
  if (run.kind == Extent::Compressed) {
    run.bytes = std::min(limit, g.cluster_bytes() - g.in_cluster(offset));
    run.compressed = decode_compressed(entry.word, g.cluster_bits);
    return run;
  }
  if (!g.extended_l2 && run.bytes < limit) {
    const u64 row = plain_row(slice, at, entry.word, run.placed ? g.cluster_bytes() : 0, g.clusters(limit - run.bytes));
    at.index += row;
    run.bytes += row << g.cluster_bits;
  }
  while (run.bytes < limit) {
    if (++unit == g.units()) {
      unit = 0;
      if (++at.index == at.entries) break;
      entry = core.entry(slice, at.index);
    }
    const Extent next = decode_l2(entry, unit, g.extended_l2, core.external());
    if (!continues(run, next, next.host + (u64{unit} << g.unit_bits()))) break;
    run.bytes += g.unit_bytes();
  }
  run.bytes = std::min(run.bytes, limit);
  return run;
}

/// L1 entries without tables in a row.
static Run hole_from(const Core& core, u64 offset, u64 limit) {
  const Geometry& g = core.geometry();
  u64 index = g.l1_index(offset), end = (index + 1) * g.bytes_per_l2();
  while (end - offset < limit && index + 1 < core.l1.size() && (core.l1[index + 1] & kOffsetMask) == 0) {
    ++index;
    end += g.bytes_per_l2();
  }
  return Run{Extent::Backing, false, false, 0, std::min(limit, end - offset), {}};
}

static Status check_table_offset(const Core& core, u64 table) {
  if (core.geometry().in_cluster(table) || table >= kMaxHostOffset)
    return core.corrupt(fmt::format("L2 table offset {:#x} is not aligned", table));
  return {};
}

std::optional<Result<Run>> Core::lookup_now(u64 offset, u64 limit) {
  const u64 table = l1[geometry().l1_index(offset)] & kOffsetMask;
  if (table == 0) return hole_from(*this, offset, limit);
  if (Status status = check_table_offset(*this, table); !status) return Result<Run>(status.error());
  const EntryAt at = locate(geometry(), l2, table, offset);
  const Slice* slice = l2.find(at.slice_offset);
  if (!slice) return std::nullopt;
  return run_from(*this, *slice, at, offset, limit);
}

Task<Result<Run>> Core::lookup(u64 offset, u64 limit) {
  std::optional<Result<Run>> now = lookup_now(offset, limit);
  if (now) co_return std::move(*now);
  const u64 table = l1[geometry().l1_index(offset)] & kOffsetMask;
  const EntryAt at = locate(geometry(), l2, table, offset);
  Result<Cache::Ref> got = co_await l2.get(at.slice_offset);
  Cache::Ref slice = CO_TRY(std::move(got));
  co_return run_from(*this, *slice, at, offset, limit);
}

bool Core::reads_as_zero(const Run& run, u64 offset) const {
  if (run.kind == Extent::Zero) return true;
  return run.kind == Extent::Backing && (!backing || offset >= backing->size_bytes());
}

u64 Core::slice_end(u64 offset) const {
  const u64 covered = l2.slice_bytes() / geometry().l2_entry_bytes() << geometry().cluster_bits;
  return align_down(offset, covered) + covered;
}

}  // namespace atl::block::qcow2
