// The command line of qemu-system-x86_64, read into our own description of a VM and of the process around it.
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "control/options.h"

namespace atl::control {

/// `arguments` without the program's name. The error's text is what to print after the program's name; nothing has been
/// opened or created yet.
Result<CommandLine> parse_command_line(std::span<const std::string> arguments);

}  // namespace atl::control
