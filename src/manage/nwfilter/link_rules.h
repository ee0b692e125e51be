// Rules on frames: the protocols mac, vlan, stp, arp, rarp, ip and ipv6 of network filters as conditions of nftables'
// bridge family.
//
// Refused by name: gratuitous ARP (nftables cannot compare two fields of a packet).
#pragma once

#include <string>

#include "manage/nwfilter/filter.h"

namespace atl::manage {

/// The conditions, "" if everything fits. `rule` has values for its variables.
Result<std::string> link_match(const FilterRule& rule);

}  // namespace atl::manage
