// The snapshot table: its bytes read, and written anew at another place.
#include <fmt/format.h>

#include <algorithm>

#include "block/format/qcow2/io.h"
#include "block/format/qcow2/snapshot_table.h"

namespace atl::block::qcow2 {
namespace {

constexpr u64 kFixedBytes = 40, kKnownExtraBytes = 24, kMaxExtraBytes = 1024;
constexpr u64 kFirstRead = 64 * kKiB;

Error bad(std::string text) { return Error(ErrorKind::Invalid, "qcow2 snapshot table: " + std::move(text), EINVAL); }

std::string text_at(std::span<const u8> bytes, u64 at, u64 size) {
  return std::string(reinterpret_cast<const char*>(bytes.data() + at), size);
}

void parse_extra(std::span<const u8> extra, u64 disk_bytes, Snapshot& snapshot) {
  if (extra.size() >= 8) snapshot.info.vm_state_bytes = load_be<u64>(&extra[0]);
  snapshot.info.disk_bytes = extra.size() >= 16 ? load_be<u64>(&extra[8]) : disk_bytes;
  if (extra.size() >= 24 && load_be<u64>(&extra[16]) != ~u64{0}) snapshot.info.icount = load_be<u64>(&extra[16]);
  if (extra.size() > kKnownExtraBytes) snapshot.unknown_extra.assign(&extra[kKnownExtraBytes], extra.data() + extra.size());
}

}  // namespace

Result<bool> parse_snapshot(std::span<const u8> bytes, u64& at, const Header& header, Snapshot& snapshot) {
  if (!range_fits(at, kFixedBytes, bytes.size())) return false;
  const u8* fixed = &bytes[at];
  const u64 id_bytes = load_be<u16>(fixed + 12), name_bytes = load_be<u16>(fixed + 14), extra = load_be<u32>(fixed + 36);
  snapshot.l1_offset = load_be<u64>(fixed);
  snapshot.l1_entries = load_be<u32>(fixed + 8);
  if (extra > kMaxExtraBytes) return bad(fmt::format("{} bytes of extra data at {:#x} are too many", extra, at));
  if (snapshot.l1_entries > kMaxL1Bytes / 8) return bad(fmt::format("an L1 table of {} entries is too large", snapshot.l1_entries));
  if (header.geometry.in_cluster(snapshot.l1_offset) || snapshot.l1_offset >= kMaxHostOffset)
    return bad(fmt::format("L1 table offset {:#x} is not aligned", snapshot.l1_offset));
  const u64 size = kFixedBytes + extra + id_bytes + name_bytes;
  if (!range_fits(at, size, bytes.size())) return false;
  snapshot.info.date_seconds = load_be<u32>(fixed + 16);
  snapshot.info.date_nanoseconds = load_be<u32>(fixed + 20);
  snapshot.info.vm_clock_ns = load_be<u64>(fixed + 24);
  snapshot.info.vm_state_bytes = load_be<u32>(fixed + 32);
  parse_extra(bytes.subspan(at + kFixedBytes, extra), header.size_bytes, snapshot);
  snapshot.info.id = text_at(bytes, at + kFixedBytes + extra, id_bytes);
  snapshot.info.name = text_at(bytes, at + kFixedBytes + extra + id_bytes, name_bytes);
  at = align_up(at + size, 8);
  return true;
}

std::vector<u8> build_snapshots(const std::vector<Snapshot>& list) {
  std::vector<u8> bytes;
  for (const Snapshot& snapshot : list) {
    const SnapshotInfo& info = snapshot.info;
    const u64 at = bytes.size(), extra = kKnownExtraBytes + snapshot.unknown_extra.size();
    bytes.resize(at + kFixedBytes + kKnownExtraBytes);
    u8* fixed = &bytes[at];
    store_be(fixed, snapshot.l1_offset);
    store_be(fixed + 8, snapshot.l1_entries);
    store_be(fixed + 12, static_cast<u16>(info.id.size()));
    store_be(fixed + 14, static_cast<u16>(info.name.size()));
    store_be(fixed + 16, static_cast<u32>(info.date_seconds));
    store_be(fixed + 20, info.date_nanoseconds);
    store_be(fixed + 24, info.vm_clock_ns);
    store_be(fixed + 32, info.vm_state_bytes > 0xffff'ffff ? u32{0} : static_cast<u32>(info.vm_state_bytes));
    store_be(fixed + 36, static_cast<u32>(extra));
    store_be(fixed + 40, info.vm_state_bytes);
    store_be(fixed + 48, info.disk_bytes);
    store_be(fixed + 56, info.icount.value_or(~u64{0}));
    bytes.insert(bytes.end(), snapshot.unknown_extra.begin(), snapshot.unknown_extra.end());
    bytes.insert(bytes.end(), info.id.begin(), info.id.end());
    bytes.insert(bytes.end(), info.name.begin(), info.name.end());
    bytes.resize(align_up(bytes.size(), 8));
  }
  return bytes;
}

Task<Result<SnapshotTable>> read_snapshot_table(Core& core) {
  SnapshotTable table;
  if (core.header.snapshots == 0) co_return table;
  // How long it is shows only from its content.
  for (u64 size = kFirstRead;; size *= 4) {
    table = {};
    std::vector<u8> bytes(std::min(size, kMaxSnapshotTableBytes));
    Status status = co_await read_padded(*core.file, core.header.snapshots_offset, std::span<u8>(bytes));
    CO_TRY(std::move(status));
    while (table.list.size() < core.header.snapshots) {
      Snapshot snapshot;
      const bool complete = CO_TRY(parse_snapshot(bytes, table.bytes, core.header, snapshot));
      if (!complete) break;
      table.list.push_back(std::move(snapshot));
    }
    if (table.list.size() == core.header.snapshots) co_return table;
    if (bytes.size() == kMaxSnapshotTableBytes) co_return bad("it is too long");
  }
}

Task<Result<std::vector<Snapshot>>> read_snapshots(Core& core) {
  Result<SnapshotTable> table = co_await read_snapshot_table(core);
  co_return CO_TRY(std::move(table)).list;
}

Task<Result<u64>> snapshot_table_bytes(Core& core) {
  Result<SnapshotTable> table = co_await read_snapshot_table(core);
  co_return CO_TRY(std::move(table)).bytes;
}

Task<Status> write_snapshot_table(Core& core, const std::vector<Snapshot>& list) {
  const Geometry& g = core.geometry();
  if (list.size() > kMaxSnapshots) co_return Error(ErrorKind::NoSpace, "too many snapshots", EFBIG);
  Result<u64> old = co_await snapshot_table_bytes(core);
  const u64 old_bytes = CO_TRY(std::move(old));
  std::vector<u8> bytes = build_snapshots(list);
  if (bytes.size() > kMaxSnapshotTableBytes) co_return Error(ErrorKind::NoSpace, "the snapshot table would be too long", EFBIG);
  Place place;
  if (!bytes.empty()) {
    Result<Place> got = co_await core.refcounts.allocate(g.clusters(bytes.size()), g.clusters(bytes.size()));
    place = CO_TRY(std::move(got));
    Status status = co_await write_growing(*core.file, place.offset, std::span<const u8>(bytes));
    CO_TRY(std::move(status));
  }
  Status status = co_await core.sync(true);
  CO_TRY(std::move(status));
  u8 fields[12];
  store_be(&fields[0], static_cast<u32>(list.size()));
  store_be(&fields[4], place.offset);
  status = co_await write_growing(*core.file, kSnapshotsAt, std::span<const u8>(fields));
  CO_TRY(std::move(status));
  const u64 old_offset = core.header.snapshots_offset;
  core.header.snapshots = static_cast<u32>(list.size());
  core.header.snapshots_offset = place.offset;
  status = co_await core.file->flush();
  CO_TRY(std::move(status));
  if (old_bytes) core.refcounts.free_later(old_offset, g.clusters(old_bytes), FreedBy::Other);
  if (old_bytes) core.refcounts.unguard(old_offset);
  if (place.clusters) core.refcounts.guard(place.offset, 1);
  co_return Status{};
}

}  // namespace atl::block::qcow2
