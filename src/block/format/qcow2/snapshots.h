// Internal snapshots: the table that lists them, and what making, applying and deleting one does to refcounts.
#pragma once

#include "block/format/qcow2/core.h"
#include "block/image.h"

namespace atl::block::qcow2 {

struct Snapshot {
  SnapshotInfo info;
  u64 l1_offset = 0;
  u32 l1_entries = 0;
  std::vector<u8> unknown_extra;   // kept when the table is written anew
};

Task<Result<std::vector<Snapshot>>> read_snapshots(Core& core);
/// Bytes of the table as it lies in the file.
Task<Result<u64>> snapshot_table_bytes(Core& core);
/// The L1 table of a snapshot.
Task<Result<std::vector<u64>>> read_l1(Core& core, u64 offset, u64 entries);

Task<Status> create_snapshot(Core& core, SnapshotInfo info);
Task<Status> apply_snapshot(Core& core, std::string id_or_name);
Task<Status> delete_snapshot(Core& core, std::string id_or_name);
Result<size_t> find_snapshot(const std::vector<Snapshot>& list, std::string_view id_or_name);

}  // namespace atl::block::qcow2
