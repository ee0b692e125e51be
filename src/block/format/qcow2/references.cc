#include "block/format/qcow2/references.h"

#include <fmt/format.h>

#include <algorithm>

namespace atl::block::qcow2 {
namespace {

/// Neighbouring clusters are counted together.
class Batch {
 public:
  explicit Batch(Core& core) : core_(core) {}

  /// Whether `offset` follows; if not, apply() first.
  bool takes(u64 offset) const { return clusters_ == 0 || start_ + (clusters_ << core_.geometry().cluster_bits) == offset; }
  void add(u64 offset, u64 clusters) {
    if (clusters_ == 0) start_ = offset;
    clusters_ += clusters;
  }
  Task<Status> apply(i64 delta) {
    const u64 clusters = std::exchange(clusters_, 0);
    if (clusters == 0) co_return Status{};
    if (delta > 0) co_return co_await core_.refcounts.change(start_, clusters, 1);
    core_.refcounts.free_later(start_, clusters, FreedBy::Snapshot);
    co_return Status{};
  }

 private:
  Core& core_;
  u64 start_ = 0, clusters_ = 0;
};

/// The clusters of the file that an entry refers to.
Place place_of(const Core& core, L2Entry entry) {
  const Geometry& g = core.geometry();
  if (entry.word & kCompressed) {
    const CompressedPlace packed = decode_compressed(entry.word, g.cluster_bits);
    const u64 start = g.cluster_start(packed.host);
    return {start, g.clusters(packed.host + packed.bytes - start), false};
  }
  const u64 host = entry.word & kOffsetMask;
  return {host, host && !core.external() ? u64{1} : 0, false};
}

Task<Status> change_slice(Core& core, const Slice& slice, Batch& batch, i64 delta) {
  const u64 entries = core.l2.slice_bytes() / core.geometry().l2_entry_bytes();
  for (u64 i = 0; i < entries; ++i) {
    const Place place = place_of(core, core.entry(slice, i));
    if (place.clusters == 0) continue;
    if (core.geometry().in_cluster(place.offset))
      co_return core.corrupt(fmt::format("data cluster offset {:#x} is not aligned", place.offset));
    if (!batch.takes(place.offset)) {
      Status status = co_await batch.apply(delta);
      CO_TRY(std::move(status));
    }
    batch.add(place.offset, place.clusters);
  }
  co_return Status{};
}

Task<Status> change_table(Core& core, u64 table, Batch& batch, i64 delta) {
  if (core.geometry().in_cluster(table)) co_return core.corrupt(fmt::format("L2 table offset {:#x} is not aligned", table));
  for (u64 at = 0; at < core.geometry().cluster_bytes(); at += core.l2.slice_bytes()) {
    Result<Cache::Ref> got = co_await core.l2.get(table + at);
    Cache::Ref slice = CO_TRY(std::move(got));
    Status status = co_await change_slice(core, *slice, batch, delta);
    CO_TRY(std::move(status));
  }
  Status status = co_await batch.apply(delta);
  CO_TRY(std::move(status));
  batch.add(table, 1);
  co_return co_await batch.apply(delta);
}

Task<Status> change_references(Core& core, const std::vector<u64>& l1, i64 delta) {
  Batch batch(core);
  for (u64 entry : l1) {
    if ((entry & kOffsetMask) == 0) continue;
    Status status = co_await change_table(core, entry & kOffsetMask, batch, delta);
    CO_TRY(std::move(status));
    status = co_await core.sync_if_full();
    CO_TRY(std::move(status));
  }
  co_return co_await core.sync(true);
}

/// Whether the cluster belongs to one entry only.
Task<Result<bool>> is_single(const Core& core, Refcounts::Cursor& refcounts, u64 host) {
  Result<u64> count = co_await refcounts.get(host >> core.geometry().cluster_bits);
  co_return CO_TRY(std::move(count)) == 1;
}

Task<Status> mark_slice(Core& core, const Cache::Ref& slice, Refcounts::Cursor& refcounts) {
  const u64 entries = core.l2.slice_bytes() / core.geometry().l2_entry_bytes();
  const u64 stride = core.geometry().l2_entry_bytes() / 8;
  for (u64 i = 0; i < entries; ++i) {
    const u64 word = slice->word(i * stride), host = word & kOffsetMask;
    if ((word & kCompressed) || host == 0 || core.external() || core.geometry().in_cluster(host)) continue;
    Result<bool> single = co_await is_single(core, refcounts, host);
    const u64 after = CO_TRY(std::move(single)) ? word | kCopied : word & ~kCopied;
    if (after == word) continue;
    slice->set_word(i * stride, after);
    core.l2.mark_dirty(slice);
  }
  co_return Status{};
}

}  // namespace

Task<Status> add_references(Core& core, const std::vector<u64>& l1) { co_return co_await change_references(core, l1, 1); }

Task<Status> drop_references(Core& core, const std::vector<u64>& l1) { co_return co_await change_references(core, l1, -1); }

Task<Status> update_copied_marks(Core& core) {
  Refcounts::Cursor refcounts(core.refcounts);
  for (u64 i = 0; i < core.l1.size(); ++i) {
    const u64 table = core.l1[i] & kOffsetMask;
    if (table == 0 || core.geometry().in_cluster(table)) continue;
    for (u64 at = 0; at < core.geometry().cluster_bytes(); at += core.l2.slice_bytes()) {
      Result<Cache::Ref> got = co_await core.l2.get(table + at);
      Cache::Ref slice = CO_TRY(std::move(got));
      Status status = co_await mark_slice(core, slice, refcounts);
      CO_TRY(std::move(status));
    }
    Result<bool> single = co_await is_single(core, refcounts, table);
    const u64 after = CO_TRY(std::move(single)) ? core.l1[i] | kCopied : core.l1[i] & ~kCopied;
    if (after != core.l1[i]) {
      core.l1[i] = after;
      core.dirty_l1.insert(i);
    }
    Status status = co_await core.sync_if_full();
    CO_TRY(std::move(status));
  }
  co_return co_await core.sync(true);
}

}  // namespace atl::block::qcow2
