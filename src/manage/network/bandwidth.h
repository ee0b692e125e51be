// Limits on what a network device carries, by the kernel's traffic control (tc(8)).
#pragma once

#include <string>

#include "manage/network/definition.h"

namespace atl::manage {

/// tc's batch commands. `to_device` is what the host sends into the device (shaped), `from_device` what comes out of it
/// (policed: what is too much is dropped). Pure.
std::string bandwidth_commands(const std::string& device, const Rate& to_device, const Rate& from_device);
/// Sets the limits; none for an average of 0.
Status apply_bandwidth(const std::string& device, const Rate& to_device, const Rate& from_device);

}  // namespace atl::manage
