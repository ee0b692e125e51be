// The snapshot table of an image (inside of qcow2).
#pragma once

#include "block/format/qcow2/snapshots.h"

namespace atl::block::qcow2 {

struct SnapshotTable {
  std::vector<Snapshot> list;
  u64 bytes = 0;
};

/// Reads the entry at `at`, which moves on; false if `bytes` end before it does.
Result<bool> parse_snapshot(std::span<const u8> bytes, u64& at, const Header& header, Snapshot& snapshot);
std::vector<u8> build_snapshots(const std::vector<Snapshot>& list);
Task<Result<SnapshotTable>> read_snapshot_table(Core& core);
/// Puts another table into the place of the old one, at once and for good. `tables` is held.
Task<Status> write_snapshot_table(Core& core, const std::vector<Snapshot>& list);

}  // namespace atl::block::qcow2
