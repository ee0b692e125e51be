// A virtual network as its XML describes it (https://libvirt.org/formatnetwork.html).
//
// The normalised tree is what is stored and printed: known elements in libvirt's order, with every choice that was left
// to us. The fields are what the tree says, checked. Supported: isolated, nat, route, open, bridge and the macvtap
// modes (bridge, private, vepa, passthrough with interfaces). Refused by name: hostdev, virtual ports, VLAN tags,
// firewall zones.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "manage/error.h"
#include "manage/network/ip.h"
#include "manage/uuid.h"
#include "manage/xml/element.h"

namespace atl::manage {

enum class ForwardMode : u8 { None, Nat, Route, Open, Bridge, Private, Vepa, Passthrough };

/// In KiB a second (burst: KiB); an average of 0 is no limit.
struct Rate {
  u64 average = 0, peak = 0, burst = 0;
};
struct Bandwidth {
  Rate inbound, outbound;
  bool is_set() const { return inbound.average || outbound.average; }
};

struct DhcpRange {
  IpAddress start, end;
  std::string lease;  // as dnsmasq takes it ("infinite", "3600s"); "" for its default
};
struct DhcpHost {
  std::string mac, id, name;
  std::optional<IpAddress> ip;
};
struct IpSubnet {
  IpAddress address;
  unsigned prefix = 0;
  bool local_ptr = false;
  std::vector<DhcpRange> ranges;
  std::vector<DhcpHost> hosts;
  std::string tftp_root, bootp_file, bootp_server;
  bool has_dhcp() const { return !ranges.empty() || !hosts.empty(); }
};
struct Route {
  IpAddress destination, gateway;
  unsigned prefix = 0;
  u32 metric = 0;
};

struct NetworkDefinition {
  xml::Element tree{"network"};
  std::string name;
  Uuid uuid{};
  ForwardMode mode = ForwardMode::None;
  std::vector<std::string> forward_devices;  // of nat and route: the only way out; of macvtap: to choose from
  bool nat_ipv6 = false;
  std::optional<std::pair<IpAddress, IpAddress>> nat_addresses;
  u64 nat_port_start = 1024, nat_port_end = 65535;
  std::string bridge;
  bool stp = true;
  u64 delay_seconds = 0;
  u64 mtu = 0;      // 0: the default
  std::string mac;  // of the bridge; "" with bridges of others
  std::string domain;
  bool domain_local_only = false;
  bool dns = true;
  Bandwidth bandwidth;
  bool ports_isolated = false;
  std::vector<IpSubnet> subnets;
  std::vector<Route> routes;

  /// Whether the bridge, its addresses and dnsmasq are ours to make.
  bool is_virtual() const { return mode <= ForwardMode::Open; }
  /// Guests are on macvtap devices, not on a bridge.
  bool is_macvtap() const { return mode >= ForwardMode::Bridge && bridge.empty(); }
};

/// Checks and completes what a client wrote. A missing bridge name of a virtual network stays missing: its manager
/// chooses.
Result<NetworkDefinition> read_network(const xml::Element& element);
Result<NetworkDefinition> parse_network(std::string_view text);
/// <bandwidth> of a network, a port group or an interface; nothing set if `element` is null.
Result<Bandwidth> read_bandwidth(const xml::Element* element);
/// "nat"; "" for None.
std::string_view forward_mode_name(ForwardMode mode);

}  // namespace atl::manage
