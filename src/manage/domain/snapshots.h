// The records of a domain's snapshots: <domainsnapshot> as libvirt prints it, one file each in STATE/snapshots/DOMAIN, and which one is
// current. What a snapshot is on the disks is disk_snapshots.cc's affair.
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
};

/// Callers that change something hold the domain's job.
class SnapshotStore {
 public:
  /// `state`: the daemon's state folder.
  SnapshotStore(const std::string& state, const std::string& domain) : folder_(state + "/snapshots/" + domain) {}

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
  std::string folder_;
};

/// The snapshot with those that come after it, nearest first.
std::vector<Snapshot> descendants(const std::vector<Snapshot>& all, const std::string& name);

}  // namespace atl::manage
