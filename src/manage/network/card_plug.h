// From a guest's <interface> to the host's end of its cable: a tap on a network's or the host's bridge, or a macvtap
// device.
#pragma once

#include "manage/network/networks.h"
#include "manage/rpc/objects.h"
#include "manage/xml/element.h"

namespace atl::manage {

/// Types network, bridge, direct and ethernet. Refused by name: what nothing here would enforce (filters, VLANs,
/// virtual ports).
Result<Plug> plug_card(Networks& networks, const xml::Element& card, const DomainRef& domain);
/// `card` names its tap in <target dev=''>. Fine if it is gone.
void unplug_card(Networks& networks, const xml::Element& card);

}  // namespace atl::manage
