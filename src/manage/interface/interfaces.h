// The host's own network interfaces (https://libvirt.org/formatdomain.html has guests'; these are netcf's): listed and
// described, never changed. Read from the kernel at each call. Any thread.
#pragma once

#include <string>
#include <vector>

#include "manage/error.h"
#include "manage/rpc/objects.h"

namespace atl::manage {

struct HostInterface {
  InterfaceRef ref;
  bool active = false;  // administratively up
};

/// Sorted by name. What daemons of ours make for guests (vnetN, macvtapN) is left out.
std::vector<HostInterface> host_interfaces();
Result<HostInterface> find_interface(const std::string& name);
std::string interface_xml(const HostInterface& interface);

}  // namespace atl::manage
