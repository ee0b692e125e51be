// One line of the human monitor, as text to text. QMP's human-monitor-command and the interactive monitor share it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/vm_control.h"

namespace atl::control {

/// Carries out one command line. `cpu` is the vCPU that "cpu" selected, for commands that look at one. Lines of the
/// result end with "\r\n"; errors are text too.
std::string hmp_execute(VmControl& vm, std::string_view line, u32& cpu, std::span<const std::string> history = {});
/// What the last word of a line may be completed to: a command, or the name that its first argument begins. completion.cc.
std::vector<std::string> hmp_completions(VmControl& vm, std::string_view line);

}  // namespace atl::control
