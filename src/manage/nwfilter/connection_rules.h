// Rules on connections: the protocols tcp, udp, sctp, icmp, all and their like, over IPv4 and IPv6, for nftables'
// bridge family.
//
// What libvirt does with conntrack is done with sets of our own, since many kernels do not track connections on
// bridges: an accepted packet puts its addresses and ports into the set, and a packet the other way that finds itself
// there belongs to a known connection. A rule is written as a packet of its direction looks; the other direction sees
// it turned around. Both directions at once are written as incoming.
//
// Reject drops: a bridge does not answer. RELATED means ICMP's errors. Refused by name: connlimit-above, ipset, the
// state INVALID.
#pragma once

#include <string>

#include "manage/nwfilter/filter.h"

namespace atl::manage {

/// Lines for the chain of what the guest sends, and of what it receives.
struct ConnectionLines {
  std::string from_guest, to_guest;
};

/// `rule` has values for its variables.
Result<ConnectionLines> connection_lines(const FilterRule& rule);
/// The sets that the lines use, as they stand in the table.
std::string connection_sets(const std::string& lines);

}  // namespace atl::manage
