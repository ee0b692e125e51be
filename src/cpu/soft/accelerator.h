// Virtual machines on the software CPU: no hardware virtualization needed.
#pragma once

#include "cpu/soft_options.h"
#include "cpu/vm.h"

namespace atl::cpu {

Result<std::unique_ptr<Vm>> create_soft_vm(const VmOptions& options, const SoftOptions& translate = {});

/// A stepper that runs the interpreter on the given address spaces.
Result<std::unique_ptr<InstructionStepper>> create_instruction_stepper(memory::AddressSpace& memory,
                                                                       memory::AddressSpace& ports, const CpuidTable& cpuid);

}  // namespace atl::cpu
