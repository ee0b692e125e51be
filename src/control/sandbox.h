// The filter of system calls that -sandbox on installs (seccomp(2), through libseccomp).
//
// Calls that a virtual machine monitor never needs end the process: changing the system, looking into other processes,
// obsolete interfaces, and, as asked for, gaining privileges, starting programs and controlling resources.
#pragma once

#include "base/result.h"
#include "control/options.h"

namespace atl::control {

/// Applies to every thread of the process, now and later; cannot be undone. Called after set-up, before the guest runs.
Status install_sandbox(const SandboxConfig& config);

}  // namespace atl::control
