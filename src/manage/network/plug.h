// The host's end of a guest's network card: a tap on a bridge, or a macvtap device.
#pragma once

#include <optional>
#include <string>

#include "manage/network/definition.h"
#include "manage/network/links.h"

namespace atl::manage {

/// What a guest's network card asks for.
struct PlugRequest {
  std::string network;    // its name
  std::string portgroup;  // "": the default one, if there is one
  std::string mac;
  std::string domain;  // name and uuid of the guest, for the port's description
  Uuid domain_uuid{};
  std::string tap_name;          // "": vnetN
  Bandwidth bandwidth;           // of the card; unset: the port group's
  std::optional<bool> isolated;  // unset: as the network says
  u64 mtu = 0;                   // 0: the network's
};

/// A card that is plugged in.
struct Plug {
  Tap tap;
  std::string bridge;  // "" with macvtap
  Uuid port{};         // all zero if it is on no network
  u64 mtu = 0;
  bool is_macvtap = false;
};

/// A tap device as a port of a bridge.
Result<Plug> plug_bridge(const std::string& bridge, const PlugRequest& request);
/// A macvtap device on a device of the host (<interface type='direct'>). Goes with unplug_direct.
Result<Plug> plug_direct(const std::string& device, MacvtapMode mode, const std::string& mac);
void unplug_direct(const std::string& name);

}  // namespace atl::manage
