// News of the machine in QMP's form (QEMU's QAPI schema: run-state.json, block-core.json, qdev.json).
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "machine/machine.h"

namespace atl::control {

/// {"event": ..., "data": {...}, "timestamp": {...}}.
nlohmann::json event_json(const machine::Event& event, u64 realtime_ns);

}  // namespace atl::control
