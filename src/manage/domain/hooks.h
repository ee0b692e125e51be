// The administrator's hook: CONFIG/hooks/qemu is run at the steps of a domain's life, as libvirt runs its own
// (https://libvirt.org/hooks.html): name, step, phase and "-" as arguments, the domain's XML on standard input.
#pragma once

#include <string>

#include "manage/domain/tree.h"

namespace atl::manage {

/// Fine if there is no hook; HookScriptFailed with its words if it says no. `config`: the daemon's folder of definitions.
Status run_hook(const std::string& config, const Element& domain, const std::string& step, const std::string& phase);
/// For steps that nothing can stop any more: a failure is logged.
void tell_hook(const std::string& config, const Element& domain, const std::string& step, const std::string& phase);

}  // namespace atl::manage
