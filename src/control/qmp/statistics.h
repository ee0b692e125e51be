// query-stats and query-stats-schemas: what the accelerator measures, by VM and by vCPU. The provider is "kvm" with KVM's own
// statistics, and "soft" with the counters of the software CPU.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "machine/machine.h"

namespace atl::control {

/// Control thread. `filter` is the argument of query-stats.
Result<nlohmann::json> statistics_json(const machine::Machine& machine, const nlohmann::json& filter);
/// `provider` "": every one.
Result<nlohmann::json> statistics_schemas_json(const machine::Machine& machine, const std::string& provider);

}  // namespace atl::control
