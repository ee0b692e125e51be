// The host's network devices over rtnetlink (rtnetlink(7), linux/if_link.h): bridges, taps, macvtaps, addresses,
// routes.
//
// Each call opens its own socket and waits for the kernel's acknowledgement. Any thread. Errors name the device.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "manage/error.h"
#include "manage/network/ip.h"

namespace atl::manage {

struct BridgeSettings {
  std::string name;
  std::string mac;  // "": the kernel's choice
  bool stp = false;
  u64 delay_seconds = 0;  // before a port forwards
  u64 mtu = 0;            // 0: the default
};

bool link_exists(const std::string& name);
/// "bridge", "veth", "virtio_net"; "" if the device does not say. Not from /sys, which may show another network
/// namespace.
std::string link_driver(const std::string& name);
bool is_bridge(const std::string& name);
/// What the device does itself, in libvirt's words: "rx", "tx", "sg", "tso", "gso", "gro" ...
std::vector<std::string_view> link_features(const std::string& name);
struct LinkFacts {
  u64 mtu = 0;
  std::string_view state = "unknown";  // "up", "down"; loopback devices do not say
};
LinkFacts link_facts(const std::string& name);
Status create_bridge(const BridgeSettings& settings);
/// Fine if it does not exist.
Status delete_link(const std::string& name);
Status set_link_up(const std::string& name, bool up);
Status set_link_mtu(const std::string& name, u64 mtu);
Status set_link_mac(const std::string& name, const std::string& mac);
/// Makes the device a port of the bridge, or of none ("").
Status set_link_master(const std::string& name, const std::string& bridge);
/// Isolated ports of a bridge reach its other ports, but not each other.
Status isolate_bridge_port(const std::string& name);
Status add_address(const std::string& name, const IpAddress& address, unsigned prefix);
Status add_route(const std::string& name, const IpAddress& destination, unsigned prefix, const IpAddress& gateway,
                 u32 metric);

struct Tap {
  Fd fd;
  std::string name;
};
/// Opens a new tap device with virtio-net headers, which goes with its last descriptor. `name` may hold %d ("vnet%d").
Result<Tap> open_tap(const std::string& name);

enum class MacvtapMode : u8 { Private, Vepa, Bridge, Passthrough };
/// A new macvtap device on `lower`. It stays until delete_link.
Result<Tap> open_macvtap(const std::string& lower, const std::string& mac, MacvtapMode mode);

}  // namespace atl::manage
