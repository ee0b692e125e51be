// Pools of type iscsi: a target's logical units are the volumes. iscsiadm(8) logs in and out.
//
// The units are found where udev names them: files "*-iscsi-TARGET-lun-N" in the pool's target folder
// (/dev/disk/by-path). Missing: CHAP
// (<auth>), making and deleting of units, which iSCSI has no words for.
#pragma once

#include <vector>

#include "manage/storage/backend.h"

namespace atl::manage {

Status log_in(const PoolDefinition& pool);
Status log_out(const PoolDefinition& pool);
/// Asks the target for units that are new.
Status rescan(const PoolDefinition& pool);
/// The units that there are now, by number.
Result<std::vector<Volume>> scan_units(const PoolDefinition& pool);
/// The targets that a portal offers.
Result<std::vector<std::string>> discover_targets(const std::string& portal);
/// "host" or "host:port" with the port that is usual.
std::string portal_of(const std::string& host);

}  // namespace atl::manage
