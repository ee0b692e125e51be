// A port: a guest's place on a running network (https://libvirt.org/formatnetworkport.html).
#pragma once

#include <string>
#include <string_view>

#include "manage/network/definition.h"
#include "manage/network/plug.h"
#include "manage/uuid.h"

namespace atl::manage {

struct NetworkPort {
  Uuid uuid{};
  std::string owner;
  Uuid owner_uuid{};
  std::string mac;
  std::string tap;  // "": a client made the port, and plugs in itself
  std::string portgroup;
  bool isolated = false;
  bool is_macvtap = false;
  std::string lower;  // of macvtap
  bool operator==(const NetworkPort&) const = default;
};

/// What the port group that was asked for, or else the network, adds to a request; the group's name goes into `port`.
Result<PlugRequest> complete_request(const NetworkDefinition& network, const PlugRequest& request, NetworkPort& port);
/// The device of a macvtap network that has the fewest users among `ports`; an error if none may be shared.
Result<std::string> choose_lower_device(const NetworkDefinition& network, const std::vector<NetworkPort>& ports);
MacvtapMode macvtap_mode_of(ForwardMode mode);

/// A port that a client makes: owner, MAC address, group, isolation. The uuid is fresh if none is given.
Result<NetworkPort> parse_network_port(std::string_view text);
std::string network_port_xml(const NetworkPort& port, const NetworkDefinition& network);

}  // namespace atl::manage
