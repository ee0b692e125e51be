// News of the machine in QMP's form (QEMU's QAPI schema: run-state.json, block-core.json, qdev.json).
#pragma once

#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "machine/machine.h"

namespace atl::control {

/// {"event": ..., "data": {...}, "timestamp": {...}}.
nlohmann::json event_json(const machine::Event& event, u64 realtime_ns);

/// Every event that can come.
std::vector<std::string_view> event_names();

}  // namespace atl::control
