// The records of a domain's snapshots: <domainsnapshot> as libvirt prints it, one file each in STATE/snapshots/DOMAIN, and which one is
// current. What a snapshot is on the disks is disk_snapshots.cc's affair. Checkpoints have the same: <domaincheckpoint>, STATE/checkpoints.
#pragma once

#include <string>
#include <vector>

#include "manage/domain/tree.h"

namespace atl::manage {

struct Snapshot {
  Element tree;  // <domainsnapshot>
  bool current = false;

  std::string name() const { return text_at(tree, "name"); }
  std::string parent() const { return text_at(tree, "parent/name"); }
  /// Inside of images, not beside them.
  bool is_internal() const;
};

/// Callers that change something hold the domain's job.
class SnapshotStore {
 public:
  /// `state`: the daemon's state folder.
  SnapshotStore(const std::string& state, const std::string& domain) : folder_(state + "/snapshots/" + domain) {}
  static SnapshotStore of_checkpoints(const std::string& state, const std::string& domain) {
    SnapshotStore store(state, domain);
    store.folder_ = state + "/checkpoints/" + domain;
    store.root_ = "domaincheckpoint";
    return store;
  }

  /// By name; files that cannot be read are left out.
  std::vector<Snapshot> all() const;
  Result<Snapshot> find(const std::string& name) const;
  Status save(const Snapshot& snapshot) const;
  /// Makes it the only current one; "": none is.
  Status set_current(const std::string& name) const;
  /// Its children become its parent's, which becomes current if it was.
  Status remove(const std::string& name) const;
  void remove_all() const;

 private:
  std::string folder_, root_ = "domainsnapshot";
};

/// The snapshot with those that come after it, nearest first.
std::vector<Snapshot> descendants(const std::vector<Snapshot>& all, const std::string& name);

}  // namespace atl::manage
