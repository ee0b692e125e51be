// What runs, as the run folder keeps it for the next daemon: the live definition and the ports on it.
#pragma once

#include <string>
#include <vector>

#include "manage/network/networks.h"

namespace atl::manage {

struct NetworkStatus {
  NetworkDefinition network;
  std::vector<NetworkPort> ports;
  bool is_complete = false;  // else it was being started or stopped
};

std::string network_status_text(const NetworkDefinition& network, const std::vector<NetworkPort>& ports,
                                bool is_complete);
Result<NetworkStatus> parse_network_status(std::string_view text);

}  // namespace atl::manage
