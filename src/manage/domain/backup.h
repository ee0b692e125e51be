// Backups of a running domain's disks: all at one moment, whole or what was written since a checkpoint. In push mode the VM writes them
// into files; in pull mode a client reads them from the VM's NBD server until it ends the job.
//
// XML: https://libvirt.org/formatbackup.html. What goes on is one <domainbackup>, as clients see it and with a few attributes of our
// own that they do not; it is kept with the VM's status, so that a restarted daemon knows of it.
#pragma once

#include <optional>
#include <string>

#include "manage/domain/domains.h"

namespace atl::manage {

/// backup_plan.cc: what a client asks for, completed: each disk of the domain with its mode, its file and the rest. Refuses what
/// contradicts itself or the domain. `suffix`: of the names of files that the client leaves open.
Result<Element> plan_backup(std::string_view text, const Element& domain, const std::string& suffix);
/// Without what clients are not told.
Element shown_backup(const Element& backup);
/// A disk's element in a backup; null if it has none or is not part of it.
const Element* backed_up_disk(const Element& backup, const std::string& target);

struct BackupRequest {
  std::string backup;
  std::optional<std::string> checkpoint;
  bool reuse = false;  // files exist
};
/// Under the domain's job.
Status begin_backup(Domains& domains, Domain& domain, const BackupRequest& request);
/// Ends it before its time, or for pull mode at all; waits.
Status cancel_backup(Domains& domains, Domain& domain);
/// A disk's job has ended by itself or by the client; the last one ends the backup. Under the domain's job.
void backup_disk_ended(Domains& domains, Domain& domain, const std::string& target, bool failed, u64 bytes);
/// The VM has gone, and with it the backup.
void drop_backup(Domains& domains, Domain& domain, const RunningVm& vm);
/// After a restart of the daemon: what ended meanwhile counts as failed, for nobody saw how.
void resume_backup(Domains& domains, Domain& domain);

/// How far it is.
struct BackupProgress {
  bool pull = false;
  u64 done = 0, total = 0;
};
std::optional<BackupProgress> backup_progress(const Domain& domain);

}  // namespace atl::manage
