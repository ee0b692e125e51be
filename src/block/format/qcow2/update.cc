// Changing L2 tables: making them ours alone, replacing entries, and keeping data off the metadata.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "block/format/qcow2/core.h"
#include "block/format/qcow2/io.h"

namespace atl::block::qcow2 {

/// A new L2 table for the entry of the L1 table, with the content of the one that a snapshot shares.
static Task<Status> new_table(Core& core, u64 index) {
  const u64 old = core.l1[index] & kOffsetMask, cluster = core.geometry().cluster_bytes();
  core.step("l2_alloc_write");
  Result<Place> got = co_await core.refcounts.allocate(1, 1);
  const Place place = CO_TRY(std::move(got));
  for (u64 at = 0; at < cluster; at += core.l2.slice_bytes()) {
    Cache::Ref before;
    if (old) {
      core.step("l2_alloc_cow_read");
      Result<Cache::Ref> shared = co_await core.l2.get(old + at);
      if (!shared) {
        core.l2.drop(place.offset, cluster);
        (void)co_await core.refcounts.give_back(place);
        co_return Error(shared.error());
      }
      before = std::move(*shared);
    }
    Cache::Ref slice = core.l2.add(place.offset + at);
    if (before) std::memcpy(slice->bytes.data(), before->bytes.data(), slice->bytes.size());
  }
  if (old) core.refcounts.free_later(old, 1, FreedBy::Other);
  core.l1[index] = place.offset | kCopied;
  core.dirty_l1.insert(index);
  core.refcounts.guard(place.offset, 1);
  co_return Status{};
}

Task<Result<Core::EntryPlace>> Core::entry_for_writing(u64 offset) {
  const u64 index = geometry().l1_index(offset);
  if (geometry().in_cluster(l1[index] & kOffsetMask))
    co_return corrupt(fmt::format("L2 table offset {:#x} is not aligned", l1[index] & kOffsetMask));
  if (!(l1[index] & kCopied) || !(l1[index] & kOffsetMask)) {
    Status status = co_await new_table(*this, index);
    CO_TRY(std::move(status));
  }
  const u64 entries = l2.slice_bytes() / geometry().l2_entry_bytes(), at = geometry().l2_index(offset);
  Result<Cache::Ref> got = co_await l2.get((l1[index] & kOffsetMask) + at / entries * l2.slice_bytes());
  Cache::Ref slice = CO_TRY(std::move(got));
  co_return EntryPlace{std::move(slice), at % entries};
}

void Core::replace(const EntryPlace& place, L2Entry after, FreedBy by) {
  const L2Entry before = entry(*place.slice, place.index);
  const bool same_place = !((before.word | after.word) & kCompressed) && (before.word & kOffsetMask) == (after.word & kOffsetMask);
  if (!same_place) free_entry(before, by);
  if (geometry().extended_l2) {
    place.slice->set_word(2 * place.index, after.word);
    place.slice->set_word(2 * place.index + 1, after.bitmap);
  } else {
    place.slice->set_word(place.index, after.word);
  }
  l2.mark_dirty(place.slice);
}

void Core::free_entry(L2Entry before, FreedBy by) {
  if (before.word & kCompressed) {
    const CompressedPlace place = decode_compressed(before.word, geometry().cluster_bits);
    const u64 start = geometry().cluster_start(place.host);
    return refcounts.free_later(start, geometry().clusters(place.host + place.bytes - start), by);
  }
  const u64 host = before.word & kOffsetMask;
  if (external() || host == 0 || geometry().in_cluster(host)) return;
  refcounts.free_later(host, 1, by);
}

// --- before the first write ---

/// Marks what this session will not keep right: features that we do not know are cleared, refcounts that are written late
/// make the image dirty, and bitmaps are in use.
Task<Status> Core::prepare_for_writing() {
  if (broken) co_return Error(ErrorKind::Io, name + " is marked corrupt", EIO);
  if (prepared) co_return Status{};
  Status status = co_await refcounts.load();
  CO_TRY(std::move(status));
  status = co_await guard_tables();
  CO_TRY(std::move(status));
  if (const u64 unknown = header.autoclear & ~kKnownAutoclear) {
    header.autoclear &= ~unknown;
    u8 field[8];
    store_be(field, header.autoclear);
    status = co_await write_growing(*file, kAutoclearAt, std::span<const u8>(field));
    CO_TRY(std::move(status));
  }
  if (lazy() && !(header.incompatible & kDirty)) {
    status = co_await set_features(kDirty, 0);
    CO_TRY(std::move(status));
    status = co_await file->flush();
    CO_TRY(std::move(status));
  }
  prepared = true;
  co_return Status{};
}

Task<Status> Core::guard_tables() {
  if (!options.overlap_checks) co_return Status{};
  refcounts.guard(header.l1_offset, geometry().clusters(8 * u64{header.l1_entries}));
  if (header.snapshots) refcounts.guard(header.snapshots_offset, 1);
  for (u64 entry : l1)
    if (entry & kOffsetMask) refcounts.guard(entry & kOffsetMask, 1);
  co_return Status{};
}

Status Core::check_overlap(u64 host, u64 bytes) {
  if (!options.overlap_checks || external()) return {};
  for (u64 at = geometry().cluster_start(host); at < host + bytes; at += geometry().cluster_bytes())
    if (refcounts.is_guarded(at))
      return damaged(fmt::format("Preventing invalid write on metadata (cluster at {:#x}); image marked as corrupt", at));
  return {};
}

}  // namespace atl::block::qcow2
