// Ports of remote screens that the definition leaves to the host.
#pragma once

#include "manage/domain/tree.h"

namespace atl::manage {

/// Gives every screen with port -1 the first free one from 5900 on.
Status choose_vnc_ports(Element& domain);

}  // namespace atl::manage
