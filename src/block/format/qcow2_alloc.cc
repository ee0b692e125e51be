#include "block/format/qcow2_alloc.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"

namespace atl::block {

using namespace qcow2;

namespace {

constexpr u64 kCacheBytes = 4 * kMiB;

u64 load_refcount(const std::vector<u8>& block, u64 index, u32 order) {
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

void store_refcount(std::vector<u8>& block, u64 index, u32 order, u64 value) {
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

Error corrupt(std::string text) { return Error(ErrorKind::Io, "qcow2 image is corrupt: " + std::move(text), EIO); }

}  // namespace

Qcow2Allocator::Qcow2Allocator(Node& file, Qcow2Header& header)
    : file_(file), header_(header), geometry_(header.geometry), blocks_(file, geometry_.cluster_bytes(), kCacheBytes) {}

Task<Status> Qcow2Allocator::load() {
  std::vector<u8> bytes(u64{header_.refcount_table_clusters} << geometry_.cluster_bits);
  iovec whole{bytes.data(), bytes.size()};
  Status status = co_await read_padded(file_, header_.refcount_table_offset, {&whole, 1});
  CO_TRY(std::move(status));
  end_of_use_ = geometry_.clusters(file_.size_bytes());
  table_.resize(bytes.size() / 8);
  for (size_t i = 0; i < table_.size(); ++i) table_[i] = load_be<u64>(&bytes[8 * i]) & kOffsetMask;
  co_return Status{};
}

/// The block that counts `cluster`, or null if there is none, which means that nothing of its range is in use.
Task<Result<MetaCache::Ref>> Qcow2Allocator::block_of(u64 cluster) {
  u64 index = cluster / geometry_.refcounts_per_block();
  if (index >= table_.size() || table_[index] == 0) co_return MetaCache::Ref();
  if (table_[index] % geometry_.cluster_bytes())
    co_return corrupt(fmt::format("refcount block at {:#x} is not aligned to a cluster", table_[index]));
  co_return co_await blocks_.get(table_[index]);
}

Task<Result<u64>> Qcow2Allocator::refcount(u64 cluster) {
  Result<MetaCache::Ref> found = co_await block_of(cluster);
  MetaCache::Ref block = CO_TRY(std::move(found));
  if (!block) co_return u64{0};
  co_return load_refcount(block->bytes, cluster % geometry_.refcounts_per_block(), geometry_.refcount_order);
}

Task<Status> Qcow2Allocator::set_refcount(u64 cluster, u64 value) {
  Result<MetaCache::Ref> found = co_await block_of(cluster);
  MetaCache::Ref block = CO_TRY(std::move(found));
  if (!block) co_return corrupt(fmt::format("no refcount for the cluster at {:#x}", offset_of(cluster)));
  store_refcount(block->bytes, cluster % geometry_.refcounts_per_block(), geometry_.refcount_order, value);
  block->dirty = true;
  if (value) end_of_use_ = std::max(end_of_use_, cluster + 1);
  co_return Status{};
}

/// A new block for the range of `cluster`, which is free as a whole; it lies in that very cluster and counts itself.
void Qcow2Allocator::add_block_at(u64 cluster) {
  auto block = blocks_.add(offset_of(cluster));
  store_refcount(block->bytes, cluster % geometry_.refcounts_per_block(), geometry_.refcount_order, 1);
  table_[cluster / geometry_.refcounts_per_block()] = offset_of(cluster);
  end_of_use_ = std::max(end_of_use_, cluster + 1);
  table_dirty_ = true;
}

/// Sees to it that the cluster is counted; a new block may take the cluster itself.
Task<Status> Qcow2Allocator::provide_block(u64 cluster) {
  u64 index = cluster / geometry_.refcounts_per_block();
  if (index >= table_.size()) co_return co_await grow_table();
  if (table_[index] == 0) add_block_at(cluster);
  co_return Status{};
}

Task<Result<Qcow2Allocator::Clusters>> Qcow2Allocator::allocate(u64 at_least, u64 at_most) {
  u64 start = first_free_, end = start, block_index = ~u64{0};
  MetaCache::Ref block;
  while (end - start < at_most) {
    if (u64 index = end / geometry_.refcounts_per_block(); index != block_index) {
      Status status = co_await provide_block(end);
      CO_TRY(std::move(status));
      Result<MetaCache::Ref> found = co_await block_of(end);
      block = CO_TRY(std::move(found));
      block_index = index;
    }
    bool is_free = load_refcount(block->bytes, end % geometry_.refcounts_per_block(), geometry_.refcount_order) == 0;
    if (!is_free && end >= end_of_use_)
      co_return corrupt(fmt::format("refcounts past the end of the file, at {:#x}", offset_of(end)));
    if (!is_free && end - start >= at_least) break;
    ++end;
    if (!is_free) start = end;
  }
  if (start == 0 || offset_of(end) > kOffsetMask)
    co_return Error(ErrorKind::NoSpace, "the qcow2 image cannot grow further", ENOSPC);
  for (u64 cluster = start; cluster < end; ++cluster) {
    Status status = co_await set_refcount(cluster, 1);
    CO_TRY(std::move(status));
  }
  first_free_ = end;
  co_return Clusters{offset_of(start), end - start};
}

std::vector<u8> Qcow2Allocator::table_bytes() const {
  std::vector<u8> bytes(8 * table_.size());
  for (size_t i = 0; i < table_.size(); ++i) store_be(&bytes[8 * i], table_[i]);
  return bytes;
}

/// Moves the table to the first clusters that it cannot count yet: a block for them, then the larger table.
Task<Status> Qcow2Allocator::grow_table() {
  const u64 old_clusters = header_.refcount_table_clusters, old_offset = header_.refcount_table_offset;
  const u64 clusters = old_clusters + old_clusters / 2 + 1;
  const u64 first = table_.size() * geometry_.refcounts_per_block();
  if (clusters << geometry_.cluster_bits > kMaxRefcountTableBytes || clusters + 1 > geometry_.refcounts_per_block())
    co_return Error(ErrorKind::NoSpace, "the refcount table of the qcow2 image cannot grow further", ENOSPC);
  Status status = co_await write_back();
  CO_TRY(std::move(status));
  table_.resize((clusters << geometry_.cluster_bits) / 8);
  add_block_at(first);
  for (u64 i = 0; i < clusters; ++i) {
    status = co_await set_refcount(first + 1 + i, 1);
    CO_TRY(std::move(status));
  }
  header_.refcount_table_offset = offset_of(first + 1);
  header_.refcount_table_clusters = static_cast<u32>(clusters);
  status = co_await write_back();
  CO_TRY(std::move(status));
  status = co_await file_.flush();
  CO_TRY(std::move(status));
  u8 fields[12];
  store_be(&fields[0], header_.refcount_table_offset);
  store_be(&fields[8], header_.refcount_table_clusters);
  status = co_await write_growing(file_, 48, std::span<const u8>(fields));
  CO_TRY(std::move(status));
  for (u64 i = 0; i < old_clusters; ++i) free_later(old_offset + offset_of(i));
  co_return Status{};
}

Task<Status> Qcow2Allocator::write_back() {
  Status status = co_await blocks_.write_back();
  CO_TRY(std::move(status));
  if (!table_dirty_) co_return Status{};
  // A block must be there before the table leads to it.
  status = co_await file_.flush();
  CO_TRY(std::move(status));
  co_return co_await write_table();
}

Task<Status> Qcow2Allocator::write_table() {
  std::vector<u8> bytes = table_bytes();
  Status status = co_await write_growing(file_, header_.refcount_table_offset, std::span<const u8>(bytes));
  if (status) table_dirty_ = false;
  co_return status;
}

Task<Status> Qcow2Allocator::release_pending() {
  for (u64 offset : std::exchange(pending_, {})) {
    u64 cluster = offset >> geometry_.cluster_bits;
    Result<u64> count = co_await refcount(cluster);
    u64 before = CO_TRY(std::move(count));
    if (before == 0) co_return corrupt(fmt::format("the cluster at {:#x} is freed twice", offset));
    Status status = co_await set_refcount(cluster, before - 1);
    CO_TRY(std::move(status));
    if (before != 1) continue;
    first_free_ = std::min(first_free_, cluster);
    status = co_await file_.discard(
        offset, std::min(geometry_.cluster_bytes(), file_.size_bytes() - std::min(offset, file_.size_bytes())));
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

}  // namespace atl::block
