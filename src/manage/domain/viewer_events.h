// What clients hear of viewers that come to a domain's screen and go.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "manage/domain/domain.h"
#include "manage/events.h"

namespace atl::manage {

/// virDomainEventGraphicsPhase.
enum class ViewerPhase : i32 { Connected = 0, Initialized = 1, Disconnected = 2 };

/// `data`: of the VM's events VNC_CONNECTED, VNC_INITIALIZED and VNC_DISCONNECTED.
void tell_of_viewer(Events& events, const Domain& domain, const nlohmann::json& data, ViewerPhase phase);

}  // namespace atl::manage
