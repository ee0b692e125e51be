// New checkpoints: from a moment on, a bitmap in each qcow2 image records what the guest writes, for incremental backups.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "manage/domain/domain.h"
#include "manage/domain/snapshots.h"

namespace atl::manage {

struct DiskBitmap {
  std::string target, name;
};

struct NewCheckpoint {
  std::string name;
  std::vector<DiskBitmap> bitmaps;
  Snapshot record;
};

/// Of a running domain, from <domaincheckpoint>.
Result<NewCheckpoint> plan_checkpoint(const Domain& domain, const SnapshotStore& store, const Element& asked);
/// What begins it, as actions of a QMP transaction.
Result<nlohmann::json> checkpoint_actions(const Domain& domain, const NewCheckpoint& checkpoint);
/// Keeps the record once the bitmaps are there.
Status keep_checkpoint(const SnapshotStore& store, const NewCheckpoint& checkpoint);
/// The bitmap of a disk's in a checkpoint's record; "" if it has none.
std::string checkpoint_bitmap(const Snapshot& checkpoint, const std::string& target);

}  // namespace atl::manage
