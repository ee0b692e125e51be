// Virtual machines on Linux KVM (Documentation/virt/kvm/api.rst).
#pragma once

#include "cpu/vm.h"

namespace atl::cpu {

/// Whether /dev/kvm opens, speaks API 12, and (unless `any_backend`) the CPU has vmx or svm; the error says which of these
/// is missing.
Status kvm_usable(bool any_backend);
/// Makes a stepper for a new vCPU: how the interpreter helps out where KVM cannot execute an instruction. Wired by `machine`,
/// so that cpu/kvm does not depend on cpu/soft. May be empty: then such an exit is a failure.
using StepperFactory = std::function<Result<std::unique_ptr<InstructionStepper>>(const CpuidTable&)>;
Result<std::unique_ptr<Vm>> create_kvm_vm(const VmOptions& options, StepperFactory stepper);

}  // namespace atl::cpu
