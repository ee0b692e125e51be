// Zeroes, discards and preallocation: changes of tables that move no data.
#include <algorithm>

#include "block/format/qcow2/io.h"
#include "block/format/qcow2/write.h"
#include "block/iovecs.h"

namespace atl::block::qcow2 {
namespace {

constexpr u64 kMostPreallocated = kGiB;   // at a time

u64 unit_mask(u32 first, u32 end) { return ((u64{1} << (end - first)) - 1) << first; }

/// An entry whose units [first, end) have been cleared.
L2Entry cleared_extended(const Core& core, L2Entry before, u32 first, u32 end, Clearing how) {
  const bool whole = first == 0 && end == kSubclusters;
  const bool placed = before.word & kOffsetMask || (core.external() && (before.word & kCopied));
  if (!whole) {
    const u64 mask = unit_mask(first, end);
    return {before.word, (before.bitmap & ~mask) | mask << kSubclusters};
  }
  if (how == Clearing::Full) return {};
  const bool keep = how == Clearing::ZeroInPlace && placed && (before.word & kCopied) && !(before.word & kCompressed);
  if (how == Clearing::Discard && !before.word && !before.bitmap && !core.has_backing()) return before;
  return {keep ? before.word : 0, unit_mask(0, kSubclusters) << kSubclusters};
}

L2Entry cleared(const Core& core, L2Entry before, u32 first, u32 end, Clearing how) {
  if (core.geometry().extended_l2) return cleared_extended(core, before, first, end, how);
  if (how == Clearing::Full || core.header.version < 3) return {};
  const Extent old = decode_l2(before, 0, false, core.external());
  if (old.kind == Extent::Backing && !core.has_backing()) return before;
  if (how == Clearing::ZeroInPlace && old.copied) return {before.word | kZero, 0};
  return {kZero, 0};
}

bool same(L2Entry a, L2Entry b) { return a.word == b.word && a.bitmap == b.bitmap; }

/// The entries of one slice.
Task<Status> clear_slice(Core& core, u64 offset, u64 end, Clearing how) {
  const Geometry& g = core.geometry();
  Result<Core::EntryPlace> got = co_await core.entry_for_writing(offset);
  Core::EntryPlace place = CO_TRY(std::move(got));
  const FreedBy by = how == Clearing::Full ? FreedBy::Other : FreedBy::Request;
  for (; offset < end; ++place.index) {
    const u64 cluster = g.cluster_start(offset), cluster_end = cluster + g.cluster_bytes();
    const u32 first = g.unit_of(offset);
    const u32 last = end >= cluster_end || end >= core.header.size_bytes ? g.units() : g.unit_of(end);
    const L2Entry before = core.entry(*place.slice, place.index);
    const L2Entry after = cleared(core, before, first, last, how);
    if (!same(before, after)) core.replace(place, after, by);
    offset = cluster_end;
  }
  co_return co_await core.sync_if_full();
}

/// Whether a range without an L2 table stays as it is.
bool hole_stays(const Core& core, u64 offset, Clearing how) {
  if (core.l1[core.geometry().l1_index(offset)] & kOffsetMask) return false;
  return how == Clearing::Full || !core.has_backing();
}

/// In an external file that others read as a raw image, what the tables say must be so.
Task<Status> clear_external(Core& core, u64 offset, u64 end, Clearing how) {
  const u64 file_end = std::min(end, core.data->size_bytes());
  if (offset >= file_end) co_return Status{};
  if (core.header.has_raw_data_file())
    co_return co_await core.data->write_zeroes(offset, file_end - offset, how == Clearing::ZeroInPlace ? 0 : u32{kMayUnmap});
  if (how == Clearing::ZeroInPlace || !core.options.discards.request) co_return Status{};
  co_return co_await core.data->discard(offset, file_end - offset);
}

/// Zeroes as data, where they are not there anyway.
Task<Status> write_zero_bytes(Core& core, u64 offset, u64 bytes) {
  while (bytes > 0) {
    Result<Run> found = co_await core.lookup(offset, bytes);
    const Run run = CO_TRY(std::move(found));
    u64 n = run.bytes;
    if (!core.reads_as_zero(run, offset)) {
      auto zeroes = iovec_zeroes(n);
      n = iovec_bytes(zeroes);
      Status status = co_await write_disk(core, offset, zeroes);
      CO_TRY(std::move(status));
    }
    offset += n;
    bytes -= n;
  }
  co_return Status{};
}

}  // namespace

Task<Status> clear_disk(Core& core, u64 offset, u64 end, Clearing how) {
  if (offset >= end) co_return Status{};
  const Geometry& g = core.geometry();
  RangeLock::Guard guard = co_await core.ranges.acquire(g.cluster_start(offset), g.cluster_end(end));
  co_await core.tables.exclusive();
  Status status = co_await core.prepare_for_writing();
  core.tables.release();
  CO_TRY(std::move(status));
  for (u64 at = offset; at < end;) {
    if (hole_stays(core, at, how)) {
      at = (g.l1_index(at) + 1) * g.bytes_per_l2();
      continue;
    }
    const u64 slice_end = std::min(core.slice_end(at), end);
    co_await core.tables.exclusive();
    status = co_await clear_slice(core, at, slice_end, how);
    core.tables.release();
    CO_TRY(std::move(status));
    at = slice_end;
  }
  if (core.external()) co_return co_await clear_external(core, offset, end, how);
  co_return Status{};
}

Task<Status> write_disk_zeroes(Core& core, u64 offset, u64 bytes, bool may_unmap) {
  const Geometry& g = core.geometry();
  const u64 end = offset + bytes;
  // Version 2 can say "zero" only where nothing lies behind.
  const bool can_clear = core.header.version >= 3 || !core.has_backing();
  const u64 first = can_clear ? std::min(align_up(offset, g.unit_bytes()), end) : end;
  u64 last = can_clear ? std::max(first, align_down(end, g.unit_bytes())) : end;
  if (can_clear && end >= core.header.size_bytes) last = std::max(first, end);
  Status status = co_await write_zero_bytes(core, offset, first - offset);
  CO_TRY(std::move(status));
  const Clearing how = may_unmap ? Clearing::ZeroAndUnmap : Clearing::ZeroInPlace;
  for (u64 at = first; at < last;) {
    // Parts of compressed clusters cannot be cleared, only whole ones.
    u64 next = g.in_cluster(at) || last - at < g.cluster_bytes() ? std::min(g.cluster_end(at + 1), last) : last;
    if (next == last && g.in_cluster(last) && last < core.header.size_bytes && g.cluster_start(last) > at)
      next = g.cluster_start(last);
    bool partial = g.in_cluster(at) || (g.in_cluster(next) && next < core.header.size_bytes);
    bool compressed = false;
    if (partial) {
      Result<Run> found = co_await core.lookup(at, 1);
      compressed = CO_TRY(std::move(found)).kind == Extent::Compressed;
    }
    if (compressed)
      status = co_await write_zero_bytes(core, at, next - at);
    else
      status = co_await clear_disk(core, at, next, how);
    CO_TRY(std::move(status));
    at = next;
  }
  co_return co_await write_zero_bytes(core, last, end - last);
}

Task<Status> discard_disk(Core& core, u64 offset, u64 bytes) {
  const Geometry& g = core.geometry();
  const u64 end = offset + bytes;
  const u64 first = g.cluster_end(offset);
  const u64 last = end >= core.header.size_bytes ? end : g.cluster_start(end);
  // Version 2 would show the backing file's bytes; a raw data file would have to be written.
  if (first >= last || (core.header.version < 3 && core.has_backing()) || core.header.has_raw_data_file()) co_return Status{};
  co_return co_await clear_disk(core, first, last, Clearing::Discard);
}

// --- preallocation ---

namespace {

/// Clusters that were used before hold old data; with a backing file, which takes extended entries, it shows through.
L2Entry preallocated(const Core& core, u64 host, bool fresh) {
  if (!core.geometry().extended_l2) return {host | kCopied | (fresh ? 0 : kZero), 0};
  const u64 all = unit_mask(0, kSubclusters);
  return {host | kCopied, core.has_backing() ? 0 : fresh ? all : all << kSubclusters};
}

Task<Result<u64>> preallocate_run(Core& core, u64 offset, u64 end) {
  const Geometry& g = core.geometry();
  Result<Run> found = co_await core.lookup(offset, std::min(end - offset, kMostPreallocated));
  const Run run = CO_TRY(std::move(found));
  const u64 run_end = g.cluster_end(offset + run.bytes);
  if (run.kind != Extent::Backing || run.placed) co_return run_end;
  const u64 stop = std::min(run_end, (g.l1_index(offset) + 1) * g.bytes_per_l2());
  Place place{offset, g.clusters(stop - offset), true};
  if (!core.external()) {
    Result<Core::EntryPlace> table = co_await core.entry_for_writing(offset);  // before the data: they stay in a row
    CO_TRY(std::move(table));
    Result<Place> got = co_await core.refcounts.allocate(1, place.clusters);
    place = CO_TRY(std::move(got));
  }
  for (u64 i = 0; i < place.clusters;) {
    const u64 at = offset + (i << g.cluster_bits);
    Result<Core::EntryPlace> got = co_await core.entry_for_writing(at);
    Core::EntryPlace entry = CO_TRY(std::move(got));
    const u64 n = std::min(place.clusters - i, (core.slice_end(at) - at) >> g.cluster_bits);
    for (u64 k = 0; k < n; ++k, ++i, ++entry.index) {
      core.replace(entry, preallocated(core, place.offset + (i << g.cluster_bits), place.fresh), FreedBy::Other);
    }
  }
  Status status = co_await core.sync_if_full();
  CO_TRY(std::move(status));
  co_return offset + (place.clusters << g.cluster_bits);
}

}  // namespace

Task<Status> preallocate(Core& core, u64 offset, u64 end, Preallocation how) {
  if (how == Preallocation::Off || offset >= end) co_return Status{};
  co_await core.tables.exclusive();
  Status status = co_await core.prepare_for_writing();
  for (u64 at = core.geometry().cluster_end(offset); status && at < end;) {
    Result<u64> next = co_await preallocate_run(core, at, end);
    if (next) at = *next;
    else status = Error(next.error());
  }
  core.tables.release();
  co_return status;
}

}  // namespace atl::block::qcow2
