#include "block/format/qcow2/resize.h"

#include <fmt/format.h>

#include <algorithm>

#include "block/format/qcow2/bitmaps.h"
#include "block/format/qcow2/io.h"
#include "block/format/qcow2/write.h"

namespace atl::block::qcow2 {

u64 refcount_bytes(u64 clusters, const Geometry& g) {
  // They count themselves, so the number is approached until it fits.
  u64 blocks = 0, table = 0;
  for (u64 before = ~u64{0}, all = 0; before != all;) {
    before = all;
    blocks = (clusters + table + blocks + g.refcounts_per_block() - 1) / g.refcounts_per_block();
    table = g.clusters(8 * blocks);
    all = clusters + blocks + table;
  }
  return (blocks + table) << g.cluster_bits;
}

u64 full_file_bytes(u64 size_bytes, const Geometry& g) {
  const u64 data = g.clusters(size_bytes);
  const u64 l2 = (data + g.l2_entries() - 1) / g.l2_entries();
  const u64 meta = 1 + l2 + g.clusters(8 * l2);
  return ((data + meta) << g.cluster_bits) + refcount_bytes(data + meta, g);
}

Task<Status> grow_l1(Core& core, u64 entries) {
  const Geometry& g = core.geometry();
  if (entries <= core.header.l1_entries) co_return Status{};
  if (entries > kMaxL1Bytes / 8) co_return Error(ErrorKind::Invalid, "The image size is too large for its cluster size", EFBIG);
  const u64 clusters = g.clusters(8 * entries), old_clusters = g.clusters(8 * u64{core.header.l1_entries});
  core.step("l1_grow_alloc_table");
  Result<Place> got = co_await core.refcounts.allocate(clusters, clusters);
  const Place place = CO_TRY(std::move(got));
  std::vector<u8> bytes(clusters << g.cluster_bits);
  for (size_t i = 0; i < core.l1.size(); ++i) store_be(&bytes[8 * i], core.l1[i]);
  Status status = co_await core.sync(true);  // what the copy leads to must be there
  CO_TRY(std::move(status));
  core.step("l1_grow_write_table");
  status = co_await write_growing(*core.file, place.offset, std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  status = co_await core.file->flush();
  CO_TRY(std::move(status));
  u8 fields[12];
  store_be(&fields[0], static_cast<u32>(entries));
  store_be(&fields[4], place.offset);
  core.step("l1_grow_activate_table");
  status = co_await write_growing(*core.file, kL1SizeAt, std::span<const u8>(fields));
  CO_TRY(std::move(status));
  for (u64 i = 0; i < old_clusters; ++i) core.refcounts.unguard(core.header.l1_offset + (i << g.cluster_bits));
  if (old_clusters) core.refcounts.free_later(core.header.l1_offset, old_clusters, FreedBy::Other);
  core.refcounts.guard(place.offset, clusters);
  core.header.l1_offset = place.offset;
  core.header.l1_entries = static_cast<u32>(entries);
  core.l1.resize(entries);
  co_return co_await core.sync(true);
}

Task<Status> reserve(Core& core, u64 old_size, Preallocation how) {
  if (core.external()) {
    Preallocation file_how = how == Preallocation::Metadata ? Preallocation::Off : how;
    if (core.data->size_bytes() >= core.header.size_bytes) co_return Status{};
    co_return co_await core.data->resize(core.header.size_bytes, file_how);
  }
  if (how != Preallocation::Falloc && how != Preallocation::Full) co_return Status{};
  const Geometry& g = core.geometry();
  const u64 end = g.cluster_end(core.file->size_bytes());
  const auto l1_clusters = [&](u64 size) { return g.clusters(8 * g.l1_entries(size)); };
  const u64 there = l1_clusters(core.header.size_bytes) - l1_clusters(old_size);   // the L1 table has been made already
  const u64 more = full_file_bytes(core.header.size_bytes, g) - full_file_bytes(old_size, g) - (there << g.cluster_bits);
  core.refcounts.set_fresh_from(end);
  co_return co_await core.file->resize(end + more, how);
}

namespace {

Task<Status> write_size(Core& core, u64 size_bytes) {
  u8 field[8];
  store_be(field, size_bytes);
  Status status = co_await write_growing(*core.file, kSizeAt, std::span<const u8>(field));
  CO_TRY(std::move(status));
  core.header.size_bytes = size_bytes;
  co_return co_await core.file->flush();
}

/// L2 tables from entry `first` on, whose data are gone already, are freed.
Task<Status> drop_tables(Core& core, u64 first) {
  for (u64 i = first; i < core.l1.size(); ++i) {
    const u64 table = core.l1[i] & kOffsetMask;
    if (table == 0) continue;
    if (core.geometry().in_cluster(table)) co_return core.corrupt(fmt::format("L2 table offset {:#x} is not aligned", table));
    core.l1[i] = 0;
    core.dirty_l1.insert(i);
    core.l2.drop(table, core.geometry().cluster_bytes());
    core.refcounts.unguard(table);
    core.refcounts.free_later(table, 1, FreedBy::Other);
  }
  co_return Status{};
}

/// Cuts off free clusters at the end of the file.
Task<Status> trim_file(Core& core) {
  const Geometry& g = core.geometry();
  u64 end = g.clusters(core.file->size_bytes());
  const u64 before = end;
  while (end > 1) {
    Result<u64> count = co_await core.refcounts.get(end - 1);
    if (CO_TRY(std::move(count)) != 0) break;
    --end;
  }
  if (end == before) co_return Status{};
  co_return co_await core.file->resize(end << g.cluster_bits, Preallocation::Off);
}

Task<Status> shrink(Core& core, u64 size_bytes) {
  const Geometry& g = core.geometry();
  // Should power fail on the way, the disk is as large as before, and its end reads as zeroes.
  const u64 old_end = g.l1_entries(core.header.size_bytes) * g.bytes_per_l2();
  const u64 old_size = core.header.size_bytes;
  Status status = co_await clear_disk(core, g.cluster_end(size_bytes), std::min(old_end, g.cluster_end(old_size)), Clearing::Full);
  CO_TRY(std::move(status));
  co_await core.tables.exclusive();
  status = co_await drop_tables(core, g.l1_entries(size_bytes));
  if (status) status = co_await core.sync(true);
  if (status) status = co_await write_size(core, size_bytes);
  if (status) status = co_await core.sync(true);
  if (status) status = co_await trim_file(core);
  core.tables.release();
  if (status && core.external() && core.header.has_raw_data_file())
    status = co_await core.data->resize(size_bytes, Preallocation::Off);
  co_return status;
}

Task<Status> grow(Core& core, u64 size_bytes, Preallocation how) {
  const Geometry& g = core.geometry();
  const u64 old_size = core.header.size_bytes;
  co_await core.tables.exclusive();
  Status status = co_await core.prepare_for_writing();
  if (status) status = co_await grow_l1(core, g.l1_entries(size_bytes));
  if (status) status = co_await write_size(core, size_bytes);
  core.tables.release();
  CO_TRY(std::move(status));
  // What a raw data file holds there must be what the image shows.
  if (core.header.has_raw_data_file() && how == Preallocation::Off) how = Preallocation::Metadata;
  if (how != Preallocation::Off || core.external()) {
    status = co_await reserve(core, old_size, how);
    if (status) status = co_await preallocate(core, old_size, size_bytes, how);
    core.refcounts.set_fresh_from(~u64{0});
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

/// What the last cluster has behind the old end may be anything, and a longer backing file would show through: now, or where it
/// grows later. Whole clusters that have been written as zeroes need nothing.
Task<Status> zero_new_part(Core& core, u64 old_size, u64 new_size, Preallocation how) {
  if (core.header.has_raw_data_file()) co_return Status{};   // shows what is in that file
  const bool written = (how == Preallocation::Falloc || how == Preallocation::Full) && !core.geometry().extended_l2;
  const bool shows = !written && core.backing && core.backing->size_bytes() > old_size;
  const u64 end = shows ? new_size : std::min(core.geometry().cluster_end(old_size), new_size);
  if (old_size >= end) co_return Status{};
  co_return co_await write_disk_zeroes(core, old_size, end - old_size, false);
}

}  // namespace

Task<Status> resize_disk(Core& core, u64 size_bytes, Preallocation how) {
  const u64 old_size = core.header.size_bytes;
  if (core.geometry().l1_entries(size_bytes) > kMaxL1Bytes / 8)
    co_return Error(ErrorKind::Invalid, "The image size is too large for its cluster size", EFBIG);
  if (size_bytes == old_size) co_return Status{};
  if (size_bytes < old_size && how != Preallocation::Off)
    co_return Error(ErrorKind::Invalid, "Preallocation can't be used for shrinking an image", EINVAL);
  if (core.header.version < 3 && core.header.snapshots)
    co_return Error(ErrorKind::Unsupported, "Can't resize a v2 image which has snapshots", ENOTSUP);
  co_await core.tables.exclusive();
  Status status = co_await core.prepare_for_writing();
  if (status && core.bitmaps) status = co_await core.bitmaps->resize(size_bytes);
  core.tables.release();
  CO_TRY(std::move(status));
  if (size_bytes < old_size) {
    status = co_await shrink(core, size_bytes);
  } else {
    status = co_await grow(core, size_bytes, how);
    if (status) status = co_await zero_new_part(core, old_size, size_bytes, how);
  }
  co_return status;
}

Task<Status> empty_disk(Core& core) {
  const Geometry& g = core.geometry();
  Status status = co_await clear_disk(core, 0, g.l1_entries(core.header.size_bytes) * g.bytes_per_l2(), Clearing::Full);
  CO_TRY(std::move(status));
  co_await core.tables.exclusive();
  status = co_await drop_tables(core, 0);
  if (status) status = co_await core.sync(true);
  if (status) status = co_await trim_file(core);
  core.tables.release();
  co_return status;
}

}  // namespace atl::block::qcow2
