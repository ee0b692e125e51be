#include "block/format/qcow2/refcounts.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/format/qcow2/io.h"

namespace atl::block::qcow2 {
namespace {

constexpr u64 kMaxSliceBytes = 64 * kKiB;
constexpr u64 kTablePiece = 512;

}  // namespace

u64 load_refcount(const u8* block, u64 index, u32 order) {
  switch (order) {
    case 3: return block[index];
    case 4: return load_be<u16>(&block[2 * index]);
    case 5: return load_be<u32>(&block[4 * index]);
    case 6: return load_be<u64>(&block[8 * index]);
    default: break;
  }
  u64 bit = index << order;
  return static_cast<u64>(block[bit / 8] >> (bit % 8)) & ((1u << (1u << order)) - 1);
}

void store_refcount(u8* block, u64 index, u32 order, u64 value) {
  switch (order) {
    case 3: block[index] = static_cast<u8>(value); return;
    case 4: store_be(&block[2 * index], static_cast<u16>(value)); return;
    case 5: store_be(&block[4 * index], static_cast<u32>(value)); return;
    case 6: store_be(&block[8 * index], value); return;
    default: break;
  }
  u64 bit = index << order;
  u32 mask = ((1u << (1u << order)) - 1) << (bit % 8);
  block[bit / 8] = static_cast<u8>((block[bit / 8] & ~mask) | (static_cast<u32>(value) << (bit % 8)));
}

Refcounts::Refcounts(Node& file, Header& header, Epochs& epochs, u64 cache_bytes, DiscardPolicy policy)
    : file_(file),
      header_(header),
      epochs_(epochs),
      policy_(policy),
      blocks_(file, std::min(header.geometry.cluster_bytes(), kMaxSliceBytes), header.geometry.cluster_bytes(), cache_bytes,
              {"refblock_load", "refblock_update_part"}) {}

Error Refcounts::corrupt(std::string text) const {
  return Error(ErrorKind::Io, fmt::format("{} is corrupt: {}", file_.info().filename, text), EIO);
}

Task<Status> Refcounts::load() {
  if (loaded_) co_return Status{};
  std::vector<u8> bytes(u64{header_.refcount_table_clusters} << header_.geometry.cluster_bits);
  step("reftable_load");
  Status status = co_await read_padded(file_, header_.refcount_table_offset, std::span<u8>(bytes));
  CO_TRY(std::move(status));
  end_of_use_ = header_.geometry.clusters(file_.size_bytes());
  table_.resize(bytes.size() / 8);
  for (size_t i = 0; i < table_.size(); ++i) table_[i] = load_be<u64>(&bytes[8 * i]) & ~kReservedRefcountBits;
  guard(0, 1);
  guard(header_.refcount_table_offset, header_.refcount_table_clusters);
  for (u64 block : table_)
    if (block) guard(block, 1);
  loaded_ = true;
  co_return Status{};
}

void Refcounts::reset() {
  blocks_.clear();
  table_.clear();
  dirty_table_.clear();
  guarded_.clear();
  first_free_ = 1;
  tail_ = 0;
  loaded_ = false;
  freed_.clear();
  waiting_.clear();
}

void Refcounts::guard(u64 offset, u64 clusters) {
  for (u64 i = 0; i < clusters; ++i) guarded_.insert((offset >> header_.geometry.cluster_bits) + i);
}

/// The part of a block that counts `cluster`, or null if there is none: then nothing of the block's range is in use.
Task<Result<Cache::Ref>> Refcounts::slice_of(u64 cluster) {
  const u64 index = cluster / per_block();
  if (index >= table_.size() || table_[index] == 0) co_return Cache::Ref();
  const u64 block = table_[index];
  if (block % header_.geometry.cluster_bytes() || block >= kMaxHostOffset)
    co_return corrupt(fmt::format("refcount block offset {:#x} is not aligned", block));
  co_return co_await blocks_.get(block + cluster % per_block() / per_slice() * blocks_.slice_bytes());
}

Task<Result<u64>> Refcounts::get(u64 cluster) {
  Result<Cache::Ref> found = co_await slice_of(cluster);
  Cache::Ref slice = CO_TRY(std::move(found));
  if (!slice) co_return u64{0};
  co_return load_refcount(slice->bytes.data(), cluster % per_slice(), header_.geometry.refcount_order);
}

std::optional<u64> Refcounts::Cursor::get_now(u64 cluster) const {
  if (!slice_ || cluster < first_ || cluster - first_ >= refcounts_.per_slice()) return std::nullopt;
  return load_refcount(slice_->bytes.data(), cluster - first_, refcounts_.header_.geometry.refcount_order);
}

Task<Result<u64>> Refcounts::Cursor::get(u64 cluster) {
  if (auto now = get_now(cluster)) co_return *now;
  Result<Cache::Ref> found = co_await refcounts_.slice_of(cluster);
  slice_ = CO_TRY(std::move(found));
  first_ = align_down(cluster, refcounts_.per_slice());
  co_return get_now(cluster).value_or(0);
}

Task<Status> Refcounts::change(u64 offset, u64 clusters, i64 delta) {
  const u32 order = header_.geometry.refcount_order;
  const u64 first = offset >> header_.geometry.cluster_bits, end = first + clusters;
  for (u64 cluster = first; cluster < end;) {
    Result<Cache::Ref> found = co_await slice_of(cluster);
    Cache::Ref slice = CO_TRY(std::move(found));
    if (!slice) co_return corrupt(fmt::format("no refcount for the cluster at {:#x}", offset_of(cluster)));
    for (u64 slice_end = std::min(end, align_down(cluster, per_slice()) + per_slice()); cluster < slice_end; ++cluster) {
      const u64 before = load_refcount(slice->bytes.data(), cluster % per_slice(), order);
      if (delta < 0 && before < static_cast<u64>(-delta))
        co_return corrupt(fmt::format("the cluster at {:#x} is freed too often", offset_of(cluster)));
      if (delta > 0 && header_.geometry.max_refcount() - before < static_cast<u64>(delta))
        co_return Error(ErrorKind::Invalid, "a refcount of the qcow2 image would exceed its width", EINVAL);
      const u64 after = before + static_cast<u64>(delta);
      store_refcount(slice->bytes.data(), cluster % per_slice(), order, after);
      blocks_.mark_dirty(slice);
      if (after != 0) continue;
      first_free_ = std::min(first_free_, cluster);
      if (tail_ >> header_.geometry.cluster_bits == cluster) tail_ = 0;
    }
  }
  end_of_use_ = std::max(end_of_use_, delta > 0 ? end : 0);
  co_return Status{};
}

// --- allocation ---

/// A new block, all zero, for a range that is free as a whole; it lies in the cluster `at`, which is still to be counted.
void Refcounts::add_block(u64 index, u64 at) {
  const u64 block = offset_of(at);
  for (u64 part = 0; part < header_.geometry.cluster_bytes(); part += blocks_.slice_bytes()) blocks_.add(block + part);
  table_[index] = block;
  dirty_table_.insert(index * 8 / kTablePiece);
  guard(block, 1);
}

/// Sees to it that the cluster is counted. A new block takes the free cluster `spare`, which may be the cluster itself.
Task<Status> Refcounts::provide_block(u64 cluster, u64 spare) {
  const u64 index = cluster / per_block();
  if (offset_of(cluster) >= kMaxHostOffset || cluster >= kMaxHostOffset >> header_.geometry.cluster_bits)
    co_return Error(ErrorKind::NoSpace, "the qcow2 image cannot grow further", ENOSPC);
  if (index >= table_.size()) co_return co_await grow_table();
  if (table_[index]) co_return Status{};
  step("refblock_alloc");
  add_block(index, spare);
  co_return co_await change(offset_of(spare), 1, 1);
}

/// The first free clusters in a row from first_free_ on.
Task<Result<Place>> Refcounts::search(u64 at_least, u64 at_most) {
  const u32 order = header_.geometry.refcount_order;
  u64 start = first_free_, end = start;
  bool first_gap = true;
  while (end - start < at_most) {
    // A new block would cut the run in two: it takes the run's first cluster.
    const bool cuts = end > start && end / per_block() < table_.size() && table_[end / per_block()] == 0;
    if (cuts && end - start >= at_least) co_return Place{offset_of(start), end - start, false};
    Status status = co_await provide_block(end, cuts ? start++ : end);
    CO_TRY(std::move(status));
    Result<Cache::Ref> found = co_await slice_of(end);
    Cache::Ref slice = CO_TRY(std::move(found));
    const u64 slice_end = align_down(end, per_slice()) + per_slice();
    while (end < slice_end && end - start < at_most) {
      const bool is_free = load_refcount(slice->bytes.data(), end % per_slice(), order) == 0;
      if (is_free) {
        ++end;
        continue;
      }
      if (end >= end_of_use_)
        co_return corrupt(fmt::format("refcounts past the end of the file, at {:#x}", offset_of(end)));
      if (end - start >= at_least) co_return Place{offset_of(start), end - start, false};
      if (end > start) first_gap = false;
      start = ++end;
      if (first_gap) first_free_ = start;
    }
  }
  co_return Place{offset_of(start), end - start, false};
}

Task<Result<Place>> Refcounts::allocate(u64 at_least, u64 at_most) {
  step("cluster_alloc");
  Status status = co_await load();
  CO_TRY(std::move(status));
  Result<Place> found = co_await search(std::max<u64>(at_least, 1), std::max<u64>(at_most, 1));
  Place place = CO_TRY(std::move(found));
  const u64 end = place.offset + offset_of(place.clusters);
  if (place.offset == 0 || end > kMaxHostOffset)
    co_return Error(ErrorKind::NoSpace, "the qcow2 image cannot grow further", ENOSPC);
  for (u64 i = 0; i < place.clusters; ++i)
    if (is_guarded(place.offset + offset_of(i)))
      co_return corrupt(fmt::format("metadata at {:#x} is counted as free", place.offset + offset_of(i)));
  place.fresh = place.offset >= std::min(fresh_from_, file_.size_bytes());
  if (fresh_from_ < end) fresh_from_ = end;
  status = co_await grow_to(file_, end);
  CO_TRY(std::move(status));
  status = co_await change(place.offset, place.clusters, 1);
  CO_TRY(std::move(status));
  if (place.offset >> header_.geometry.cluster_bits == first_free_) first_free_ += place.clusters;
  co_return place;
}

Task<Result<u64>> Refcounts::allocate_bytes(u64 bytes) {
  step("cluster_alloc_bytes");
  Status status = co_await load();
  CO_TRY(std::move(status));
  u64 offset = tail_;
  if (tail_) {
    Result<bool> fits = co_await extend(tail_, bytes);
    if (!CO_TRY(std::move(fits))) offset = 0;
  }
  if (!offset) {
    const u64 clusters = header_.geometry.clusters(bytes);
    Result<Place> place = co_await allocate(clusters, clusters);
    offset = CO_TRY(std::move(place)).offset;
  }
  tail_ = header_.geometry.in_cluster(offset + bytes) ? offset + bytes : 0;
  co_return offset;
}

/// One more reference to each cluster of [offset, offset + bytes), whose first is in use already. False if that cannot be:
/// the clusters behind it are taken, or the refcount would not fit.
Task<Result<bool>> Refcounts::extend(u64 offset, u64 bytes) {
  const u64 first = header_.geometry.cluster_start(offset);
  const u64 clusters = header_.geometry.clusters(offset + bytes - first);
  for (u64 i = 0; i < clusters; ++i) {
    const u64 cluster = (first >> header_.geometry.cluster_bits) + i;
    if (i) {
      Status status = co_await provide_block(cluster, cluster);
      CO_TRY(std::move(status));
    }
    Result<u64> before = co_await get(cluster);
    u64 count = CO_TRY(std::move(before));
    if (i ? count != 0 || is_guarded(offset_of(cluster)) : count >= header_.geometry.max_refcount()) co_return false;
  }
  Status status = co_await grow_to(file_, first + offset_of(clusters));
  CO_TRY(std::move(status));
  status = co_await change(first, clusters, 1);
  CO_TRY(std::move(status));
  co_return true;
}

/// Moves the table to the first clusters that it cannot count yet: the blocks that count them, then the larger table.
Task<Status> Refcounts::grow_table() {
  const u64 old_clusters = header_.refcount_table_clusters, old_offset = header_.refcount_table_offset;
  const u64 clusters = old_clusters + old_clusters / 2 + 1;
  const u64 first = table_.size() * per_block(), index = table_.size();
  const u64 blocks = (clusters + per_block() - 2) / (per_block() - 1);  // each counts one of them, too
  if (clusters << header_.geometry.cluster_bits > kMaxRefcountTableBytes)
    co_return Error(ErrorKind::NoSpace, "the refcount table of the qcow2 image cannot grow further", ENOSPC);
  step("reftable_grow");
  Status status = co_await write_back();
  CO_TRY(std::move(status));
  step("refblock_alloc_write_blocks");
  table_.resize((clusters << header_.geometry.cluster_bits) / 8);
  for (u64 i = 0; i < blocks; ++i) add_block(index + i, first + i);
  status = co_await change(offset_of(first), blocks + clusters, 1);
  CO_TRY(std::move(status));
  header_.refcount_table_offset = offset_of(first + blocks);
  header_.refcount_table_clusters = static_cast<u32>(clusters);
  guard(header_.refcount_table_offset, clusters);
  for (u64 piece = 0; piece < 8 * table_.size() / kTablePiece; ++piece) dirty_table_.insert(piece);
  step("refblock_alloc_write_table");
  status = co_await write_back();
  CO_TRY(std::move(status));
  status = co_await file_.flush();
  CO_TRY(std::move(status));
  step("refblock_alloc_switch_table");
  u8 fields[12];
  store_be(&fields[0], header_.refcount_table_offset);
  store_be(&fields[8], header_.refcount_table_clusters);
  status = co_await write_growing(file_, kRefcountTableAt, std::span<const u8>(fields));
  CO_TRY(std::move(status));
  for (u64 i = 0; i < old_clusters; ++i) unguard(old_offset + offset_of(i));
  free_later(old_offset, old_clusters, FreedBy::Other);
  co_return Status{};
}

// --- writing back, giving back ---

Task<Status> Refcounts::write_back() {
  Status status = co_await blocks_.write_back();
  CO_TRY(std::move(status));
  if (dirty_table_.empty()) co_return Status{};
  // A block must be there before the table leads to it.
  status = co_await file_.flush();
  CO_TRY(std::move(status));
  co_return co_await write_table();
}

Task<Status> Refcounts::write_table() {
  while (!dirty_table_.empty()) {
    // A row of changed pieces at a time.
    const u64 first = *dirty_table_.begin();
    u64 end = first + 1;
    while (dirty_table_.contains(end)) ++end;
    std::vector<u8> bytes((end - first) * kTablePiece);
    for (u64 i = 0; i < bytes.size() / 8; ++i) store_be(&bytes[8 * i], table_[first * kTablePiece / 8 + i]);
    Status status = co_await write_growing(file_, header_.refcount_table_offset + first * kTablePiece,
                                           std::span<const u8>(bytes));
    CO_TRY(std::move(status));
    dirty_table_.erase(dirty_table_.begin(), dirty_table_.lower_bound(end));
  }
  co_return Status{};
}

void Refcounts::free_later(u64 offset, u64 clusters, FreedBy by) {
  bool follows = !freed_.empty() && freed_.back().by == by &&
                 freed_.back().offset + offset_of(freed_.back().clusters) == offset;
  if (follows)
    freed_.back().clusters += clusters;
  else
    freed_.push_back({offset, clusters, by});
}

Task<Status> Refcounts::release() {
  if (!freed_.empty()) waiting_.push_back({epochs_.advance(), std::exchange(freed_, {})});
  size_t ready = 0;
  while (ready < waiting_.size() && epochs_.over(waiting_[ready].epoch)) ++ready;
  std::vector<Waiting> due(std::make_move_iterator(waiting_.begin()),
                           std::make_move_iterator(waiting_.begin() + static_cast<long>(ready)));
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<long>(ready));
  for (Waiting& entry : due) {
    Status status = co_await release_list(std::move(entry.list));
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

Task<Status> Refcounts::release_list(std::vector<Freed> list) {
  Status status = co_await load();
  CO_TRY(std::move(status));
  for (const Freed& freed : list) {
    step("cluster_free");
    status = co_await change(freed.offset, freed.clusters, -1);
    CO_TRY(std::move(status));
    if (!policy_.passes(freed.by)) continue;
    for (u64 i = 0; i < freed.clusters;) {
      // Only what is really free now; a snapshot may still have the rest.
      Result<u64> left = co_await get((freed.offset >> header_.geometry.cluster_bits) + i);
      u64 run = 0;
      while (left && *left == 0 && i + run < freed.clusters) {
        if (++run + i < freed.clusters) left = co_await get((freed.offset >> header_.geometry.cluster_bits) + i + run);
      }
      if (!left) co_return Error(left.error());
      const u64 start = freed.offset + offset_of(i), end = std::min(start + offset_of(run), file_.size_bytes());
      if (run && start < end) status = co_await file_.discard(start, end - start);
      CO_TRY(std::move(status));
      i += std::max<u64>(run, 1);
    }
  }
  co_return Status{};
}

}  // namespace atl::block::qcow2
