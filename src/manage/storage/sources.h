// Where pools could come from: volume groups of this host, folders that an NFS server exports, targets of an iSCSI
// portal (virConnectFindStoragePoolSources).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "manage/error.h"

namespace atl::manage {

/// `type`: of pool. `spec`: <source> with the host to ask, where one is needed. A document <sources>.
Result<std::string> find_pool_sources(const std::string& type, const std::optional<std::string>& spec);

}  // namespace atl::manage
