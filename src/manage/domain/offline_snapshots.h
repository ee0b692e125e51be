// Snapshots of the disks of a domain that does not run, by the block layer: inside of its qcow2 images, or as overlays that the disks go
// on in. And the way back to a snapshot of either kind. All of it under the domain's job.
#pragma once

#include <string>
#include <vector>

#include "manage/domain/block_jobs.h"
#include "manage/domain/snapshots.h"
#include "manage/storage/images.h"

namespace atl::manage {

/// The disks that a snapshot inside of images is of. ConfigUnsupported names one whose format has no snapshots.
Result<std::vector<std::string>> internal_targets(const Element& config, const Element& snapshot);
/// In each of these disks' images; what was done is undone when one fails.
Status snapshot_inside(const Element& config, const std::vector<std::string>& targets, SnapshotAction action, const std::string& name);

/// The definition's disks go on in new overlays (`reuse`: that exist).
Status make_overlays(Domains& domains, Domain& domain, const std::vector<NewOverlay>& overlays, bool reuse);
/// The opposite: what `overlay` holds goes into the image below, and its file is deleted.
Status merge_overlay_offline(Domains& domains, Domain& domain, const std::string& target, const std::string& overlay);
/// An error if images of other snapshots, to which the domain was reverted or from which it came, stand on those that merging would change.
Status check_no_branches(const SnapshotStore& store, const Element& tree, const Snapshot& snapshot);
/// An overlay that the domain does not stand on any more, and no other snapshot either, is deleted; false if the domain stands on it.
Result<bool> drop_branch(const SnapshotStore& store, const Element& tree, const std::string& target, const std::string& overlay);
/// Records that name a merged overlay as a disk's image name what took it in.
Status follow_merge(const SnapshotStore& store, const std::string& overlay, const std::string& image, const std::string& format);

/// Makes the definition, and the disks, what they were. External snapshots keep their images: disks go on in new overlays of them.
Status revert_disks(Domains& domains, Domain& domain, const Snapshot& snapshot);

}  // namespace atl::manage
