// nftables rules of virtual networks, each in a table of its own ("atoll-virbr0") that goes with the network. Tables of
// the administrator are never touched.
#pragma once

#include <string>

#include "manage/network/definition.h"

namespace atl::manage {

/// The table's text as `nft -f` takes it, replacing what was there. Pure. "" if the network needs no rules (open,
/// bridge).
///
/// nat: guests go out with the host's address, only answers come in. route: both ways, by the network's own addresses.
/// Isolated: nothing passes. Guests of one network always reach each other.
std::string firewall_rules(const NetworkDefinition& network);
Status apply_firewall(const NetworkDefinition& network);
Status remove_firewall(const std::string& bridge);
/// Runs text through nft, all or nothing.
Status run_nft(const std::string& text);
/// net.ipv4.ip_forward, and net.ipv6.conf.all.forwarding where the network has an IPv6 address.
Status enable_forwarding(const NetworkDefinition& network);

}  // namespace atl::manage
