#include "manage/network/host_side.h"

#include <fmt/format.h>

#include <cinttypes>
#include <cstdio>

#include "base/log.h"
#include "base/strings.h"
#include "manage/network/bandwidth.h"
#include "manage/network/firewall.h"
#include "manage/network/links.h"

namespace atl::manage {
namespace {

u32 ipv4_number(const IpAddress& address) {
  return u32{address.bytes[0]} << 24 | u32{address.bytes[1]} << 16 | u32{address.bytes[2]} << 8 | address.bytes[3];
}

/// A subnet that the host has a route to already would take that traffic away.
Status check_host_routes(const NetworkDefinition& network) {
  auto text = read_file("/proc/net/route", 1 << 20);
  if (!text) return {};
  for (std::string_view line : split(*text, '\n')) {
    char device[32];
    u32 destination = 0, mask = 0;
    if (std::sscanf(std::string(line).c_str(), "%31s %" SCNx32 " %*x %*x %*d %*d %*d %" SCNx32, device, &destination,
                    &mask) != 3)
      continue;
    destination = __builtin_bswap32(destination), mask = __builtin_bswap32(mask);
    if (mask == 0) continue;  // the default route
    for (const IpSubnet& subnet : network.subnets) {
      if (subnet.address.v6) continue;
      u32 both = mask & ipv4_number(mask_of_prefix(subnet.prefix));
      if ((destination & both) == (ipv4_number(subnet.address) & both))
        return Error(Code::InternalError, fmt::format("Network is already in use by interface {}", device),
                     Part::NetworkDriver);
    }
  }
  return {};
}

Status bring_up_bridge(const NetworkDefinition& network) {
  TRY(create_bridge({network.bridge, network.mac, network.stp, network.delay_seconds, network.mtu}));
  for (const IpSubnet& subnet : network.subnets) TRY(add_address(network.bridge, subnet.address, subnet.prefix));
  TRY(set_link_up(network.bridge, true));
  for (const Route& route : network.routes)
    TRY(add_route(network.bridge, route.destination, route.prefix, route.gateway, route.metric));
  return {};
}

}  // namespace

Status bring_up_network(const NetworkDefinition& network, Dnsmasq dnsmasq) {
  if (!network.is_virtual()) return {};
  TRY(check_host_routes(network));
  TRY(bring_up_bridge(network));
  TRY(apply_firewall(network));
  TRY(enable_forwarding(network));
  // Guests receive what the host sends into the bridge.
  if (network.bandwidth.is_set())
    TRY(apply_bandwidth(network.bridge, network.bandwidth.inbound, network.bandwidth.outbound));
  return dnsmasq.start(network);
}

void take_down_network(const NetworkDefinition& network, Dnsmasq dnsmasq) {
  if (!network.is_virtual()) return;
  dnsmasq.stop();
  Status gone = firewall_rules(network).empty() ? Status() : remove_firewall(network.bridge);
  if (!gone) log_warning("network {}: {}", network.name, gone.error().message());
  if (Status deleted = delete_link(network.bridge); !deleted)
    log_warning("network {}: {}", network.name, deleted.error().message());
}

Status change_network(const NetworkDefinition& before, const NetworkDefinition& after, Dnsmasq dnsmasq) {
  if (!after.is_virtual()) return {};
  DnsmasqFiles old_files = dnsmasq_files(before, dnsmasq.paths()), files = dnsmasq_files(after, dnsmasq.paths());
  bool same = files.config == old_files.config && files.dns_hosts == old_files.dns_hosts;
  if (!same) TRY(dnsmasq.start(after));
  if (firewall_rules(after) != firewall_rules(before)) TRY(apply_firewall(after));
  return {};
}

}  // namespace atl::manage
