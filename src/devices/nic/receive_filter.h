// What a network card lets through to its guest, as the driver asked for it.
#pragma once

#include <vector>

#include "devices/nic/ethernet.h"

namespace atl::devices {

struct ReceiveFilter {
  enum class Mode : u8 { Normal, None, All };

  MacAddress own{};
  bool promiscuous = false, broadcast = true;
  Mode unicast = Mode::Normal, multicast = Mode::Normal, vlan = Mode::All;
  bool unicast_overflow = false, multicast_overflow = false;
  std::vector<MacAddress> unicast_table, multicast_table;
  std::vector<u16> vlan_table;
};

}  // namespace atl::devices
