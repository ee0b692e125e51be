#include "block/format/qcow2/snapshots.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/strings.h"
#include "block/format/qcow2/io.h"
#include "block/format/qcow2/references.h"
#include "block/format/qcow2/resize.h"
#include "block/format/qcow2/snapshot_table.h"

namespace atl::block::qcow2 {
namespace {

/// The tables, held for as long as a change takes.
Task<Status> begin(Core& core) {
  if (core.external())
    co_return Error(ErrorKind::Unsupported, "images with an external data file can have no internal snapshots", ENOTSUP);
  Status status = co_await core.prepare_for_writing();
  CO_TRY(std::move(status));
  co_return co_await core.sync(true);
}

Task<Result<u64>> write_l1_copy(Core& core, const std::vector<u64>& l1) {
  const u64 clusters = core.geometry().clusters(8 * l1.size());
  if (clusters == 0) co_return u64{0};
  Result<Place> got = co_await core.refcounts.allocate(clusters, clusters);
  const Place place = CO_TRY(std::move(got));
  std::vector<u8> bytes(clusters << core.geometry().cluster_bits);
  for (size_t i = 0; i < l1.size(); ++i) store_be(&bytes[8 * i], l1[i] & ~kCopied);
  Status status = co_await write_growing(*core.file, place.offset, std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  co_return place.offset;
}

std::string next_id(const std::vector<Snapshot>& list) {
  u64 highest = 0;
  for (const Snapshot& snapshot : list) highest = std::max(highest, parse_u64(snapshot.info.id).value_or(0));
  return std::to_string(highest + 1);
}

/// References first, then marks, and the list last: a crash in between leaves leaks only.
Task<Status> create_held(Core& core, SnapshotInfo info) {
  Result<std::vector<Snapshot>> read = co_await read_snapshots(core);
  std::vector<Snapshot> list = CO_TRY(std::move(read));
  if (info.id.empty()) info.id = next_id(list);
  for (const Snapshot& other : list)
    if (other.info.id == info.id) co_return Error(ErrorKind::Exists, fmt::format("a snapshot with ID {} exists already", info.id), EEXIST);
  if (info.id.size() > 0xffff || info.name.size() > 0xffff) co_return Error(ErrorKind::Invalid, "the snapshot's name is too long", EINVAL);
  info.disk_bytes = core.header.size_bytes;
  Status status = co_await add_references(core, core.l1);
  CO_TRY(std::move(status));
  status = co_await update_copied_marks(core);
  CO_TRY(std::move(status));
  Result<u64> copy = co_await write_l1_copy(core, core.l1);
  Snapshot snapshot;
  snapshot.l1_offset = CO_TRY(std::move(copy));
  snapshot.l1_entries = static_cast<u32>(core.l1.size());
  snapshot.info = std::move(info);
  list.push_back(std::move(snapshot));
  status = co_await write_snapshot_table(core, list);
  CO_TRY(std::move(status));
  co_return co_await core.sync(true);
}

/// Size and place of the active L1 table change in one write.
Task<Status> switch_l1(Core& core, std::vector<u64> l1, u64 size_bytes) {
  const Geometry& g = core.geometry();
  l1.resize(std::max<u64>(l1.size(), g.l1_entries(size_bytes)));
  Result<u64> copy = co_await write_l1_copy(core, l1);
  const u64 offset = CO_TRY(std::move(copy));
  Status status = co_await core.sync(true);
  CO_TRY(std::move(status));
  u8 fields[24];
  store_be(&fields[0], size_bytes);
  store_be(&fields[8], core.header.encryption);
  store_be(&fields[12], static_cast<u32>(l1.size()));
  store_be(&fields[16], offset);
  status = co_await write_growing(*core.file, kSizeAt, std::span<const u8>(fields));
  CO_TRY(std::move(status));
  const u64 old_clusters = g.clusters(8 * core.l1.size());
  for (u64 i = 0; i < old_clusters; ++i) core.refcounts.unguard(core.header.l1_offset + (i << g.cluster_bits));
  if (old_clusters) core.refcounts.free_later(core.header.l1_offset, old_clusters, FreedBy::Other);
  for (u64& entry : l1) entry &= ~kCopied;
  core.l1 = std::move(l1);
  core.header.size_bytes = size_bytes;
  core.header.l1_entries = static_cast<u32>(core.l1.size());
  core.header.l1_offset = offset;
  co_return co_await core.guard_tables();
}

Task<Status> apply_held(Core& core, std::string id_or_name) {
  Result<std::vector<Snapshot>> read = co_await read_snapshots(core);
  std::vector<Snapshot> list = CO_TRY(std::move(read));
  const Snapshot snapshot = list[CO_TRY(find_snapshot(list, id_or_name))];
  if (core.header.version < 3 && snapshot.info.disk_bytes != core.header.size_bytes)
    co_return Error(ErrorKind::Unsupported, "the snapshot's disk has another size, which version 2 images cannot take", ENOTSUP);
  Result<std::vector<u64>> loaded = co_await read_l1(core, snapshot.l1_offset, snapshot.l1_entries);
  std::vector<u64> l1 = CO_TRY(std::move(loaded));
  Status status = co_await add_references(core, l1);
  CO_TRY(std::move(status));
  std::vector<u64> before = core.l1;
  status = co_await switch_l1(core, std::move(l1), snapshot.info.disk_bytes);
  CO_TRY(std::move(status));
  status = co_await core.file->flush();
  CO_TRY(std::move(status));
  status = co_await drop_references(core, before);
  CO_TRY(std::move(status));
  co_return co_await update_copied_marks(core);
}

Task<Status> delete_held(Core& core, std::string id_or_name) {
  Result<std::vector<Snapshot>> read = co_await read_snapshots(core);
  std::vector<Snapshot> list = CO_TRY(std::move(read));
  const size_t index = CO_TRY(find_snapshot(list, id_or_name));
  const Snapshot snapshot = list[index];
  Result<std::vector<u64>> loaded = co_await read_l1(core, snapshot.l1_offset, snapshot.l1_entries);
  std::vector<u64> l1 = CO_TRY(std::move(loaded));
  list.erase(list.begin() + static_cast<long>(index));
  Status status = co_await write_snapshot_table(core, list);
  CO_TRY(std::move(status));
  status = co_await drop_references(core, l1);
  CO_TRY(std::move(status));
  const u64 clusters = core.geometry().clusters(8 * u64{snapshot.l1_entries});
  if (clusters) core.refcounts.free_later(snapshot.l1_offset, clusters, FreedBy::Snapshot);
  status = co_await core.sync(true);
  CO_TRY(std::move(status));
  co_return co_await update_copied_marks(core);
}

template <class F>
Task<Status> with_tables(Core& core, F work) {
  co_await core.tables.exclusive();
  Status status = co_await begin(core);
  if (status) status = co_await work();
  core.tables.release();
  co_return status;
}

}  // namespace

Task<Result<std::vector<u64>>> read_l1(Core& core, u64 offset, u64 entries) {
  std::vector<u8> bytes(8 * entries);
  Status status = co_await read_padded(*core.file, offset, std::span<u8>(bytes));
  CO_TRY(std::move(status));
  std::vector<u64> l1(entries);
  for (size_t i = 0; i < entries; ++i) l1[i] = load_be<u64>(&bytes[8 * i]);
  co_return l1;
}

/// An ID counts before a name.
Result<size_t> find_snapshot(const std::vector<Snapshot>& list, std::string_view id_or_name) {
  auto found = std::ranges::find_if(list, [&](const Snapshot& s) { return s.info.id == id_or_name; });
  if (found == list.end()) found = std::ranges::find_if(list, [&](const Snapshot& s) { return s.info.name == id_or_name; });
  if (found == list.end()) return Error(ErrorKind::NotFound, fmt::format("snapshot '{}' not found", id_or_name), ENOENT);
  return static_cast<size_t>(found - list.begin());
}

Task<Status> create_snapshot(Core& core, SnapshotInfo info) {
  auto work = [&] { return create_held(core, info); };
  co_return co_await with_tables(core, work);
}

Task<Status> apply_snapshot(Core& core, std::string id_or_name) {
  auto work = [&] { return apply_held(core, id_or_name); };
  co_return co_await with_tables(core, work);
}

Task<Status> delete_snapshot(Core& core, std::string id_or_name) {
  auto work = [&] { return delete_held(core, id_or_name); };
  co_return co_await with_tables(core, work);
}

}  // namespace atl::block::qcow2
