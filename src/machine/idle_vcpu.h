// A vCPU that runs no guest code: for machines that only monitors and test programs drive (-accel qtest). All but running is
// what the vCPU below does.
#pragma once

#include <memory>

#include "cpu/vm.h"

namespace atl::machine {

std::unique_ptr<cpu::Vcpu> make_idle_vcpu(std::unique_ptr<cpu::Vcpu> below);

}  // namespace atl::machine
