// The whole life of atoll-vmm: command line, set-up, event loop, orderly end.
#pragma once

#include <span>
#include <string>

namespace atl::control {

/// `arguments` without the program's name. The result is the exit status.
int run_vmm(std::span<const std::string> arguments);

}  // namespace atl::control
