// What a network is on the host while it runs: a bridge with addresses and routes, firewall rules, forwarding, dnsmasq.
#pragma once

#include "manage/network/definition.h"
#include "manage/network/dnsmasq.h"

namespace atl::manage {

/// Of networks whose bridge is ours; the others need nothing. What was made before an error stays for take_down.
Status bring_up_network(const NetworkDefinition& network, Dnsmasq dnsmasq);
/// Failures are logged: what can go goes.
void take_down_network(const NetworkDefinition& network, Dnsmasq dnsmasq);
/// Makes what runs as `before` says into what `after` says. Guests stay connected.
Status change_network(const NetworkDefinition& before, const NetworkDefinition& after, Dnsmasq dnsmasq);

}  // namespace atl::manage
