// Jobs on a running domain's disks, and external snapshots of them. A disk's job is called "job-" and its target ("job-vda"). Callers
// that change something hold the domain's job.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "manage/domain/domains.h"

namespace atl::manage {

/// The bandwidth of a call counts bytes, not MiB.
inline constexpr u32 kBandwidthBytes = 1;

inline std::string disk_job_name(const std::string& target) { return "job-" + target; }

/// virDomainBlockJobType.
enum class DiskJobType : i32 { Unknown = 0, Pull = 1, Copy = 2, Commit = 3, ActiveCommit = 4, Backup = 5 };

struct DiskJobInfo {
  i32 type = 0;
  u64 bandwidth = 0, done = 0, total = 0;
  bool ready = false;
};

/// Copies what lies below `base` (""; all) into the disk's image.
Status pull_disk(const Domain& domain, const std::string& path, const std::string& base, u64 bandwidth, bool bytes);

struct CommitRequest {
  std::string path, base, top;
  u64 bandwidth = 0;
  bool shallow = false, bytes = false, active = false;
};
Status commit_disk(Domains& domains, Domain& domain, const CommitRequest& request);

struct CopyRequest {
  std::string path;
  std::string destination;  // <disk> as the client wrote it
  bool shallow = false, reuse = false, transient = false;
  bool synchronous = false;  // guests' writes wait for the copy's
  u64 bandwidth = 0, granularity = 0, buffer = 0;  // bytes; 0: as the VM likes
};
Status copy_disk(Domains& domains, Domain& domain, const CopyRequest& request);

/// Cancels, or with `pivot` makes the disk go on with the job's target.
Status end_disk_job(Domains& domains, Domain& domain, const std::string& path, bool pivot, bool do_not_wait);
/// Nothing if the disk has no job.
Result<std::optional<DiskJobInfo>> disk_job_info(const Domain& domain, const std::string& path);
Status set_disk_job_speed(const Domain& domain, const std::string& path, u64 bytes_per_second);

/// What a job of QMP's is called by libvirt.
DiskJobType disk_job_type(const Element& disk, const std::string& kind);

// disk_snapshots.cc
/// Every <disk> of a <domainsnapshot> names one of the domain's, and once.
Status check_snapshot_disks(const Element& tree, const Element& snapshot);
struct NewOverlay {
  std::string target, image, format, file;  // what the disk reads from now, and the file that it goes on in
};
/// Which disks a <domainsnapshot> is about.
Result<std::vector<NewOverlay>> overlays_of(const Element& tree, const Element& snapshot, const std::string& name);
/// Takes an overlay of a running domain's disk away again: its content goes into the image below, and its file is deleted. Waits.
Status merge_overlay(Domains& domains, Domain& domain, const std::string& target, const std::string& overlay);
/// Of a running domain; `reuse`: the overlays exist.
Status snapshot_disks(Domains& domains, Domain& domain, const std::vector<NewOverlay>& overlays, bool reuse);
/// An empty file of the VM's user: it cannot make one itself.
Status make_image_file(RunningVm& vm, const std::string& path, bool must_exist);

}  // namespace atl::manage
