// From a guest's <interface> to the host's end of its cable: a tap on a network's or the host's bridge, or a macvtap
// device.
#pragma once

#include "manage/network/networks.h"
#include "manage/nwfilter/filters.h"
#include "manage/rpc/objects.h"
#include "manage/xml/element.h"

namespace atl::manage {

/// Where guests' cards are plugged in, and what guards them.
struct CardHost {
  Networks& networks;
  Filters& filters;
};

/// Types network, bridge, direct and ethernet. Refused by name: what nothing here would enforce (VLANs, virtual ports).
Result<Plug> plug_card(CardHost host, const xml::Element& card, const DomainRef& domain);
/// `card` names its tap in <target dev=''>. Fine if it is gone.
void unplug_card(CardHost host, const xml::Element& card);

}  // namespace atl::manage
