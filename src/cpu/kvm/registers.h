// Between VcpuState and KVM's register structures.
#pragma once

#include "cpu/kvm/kvm_abi.h"
#include "cpu/state.h"

namespace atl::cpu::kvm {

kvm_regs to_kvm_regs(const VcpuState& state);
void from_kvm_regs(const kvm_regs& regs, VcpuState& state);

/// kvm_sregs and kvm_sregs2 share the fields that matter; the rest of `out` stays.
template <class Sregs>
void to_kvm_sregs(const VcpuState& state, Sregs& out);
template <class Sregs>
void from_kvm_sregs(const Sregs& sregs, VcpuState& state);

kvm_debugregs to_kvm_debugregs(const VcpuState& state);
void from_kvm_debugregs(const kvm_debugregs& debugregs, VcpuState& state);

kvm_vcpu_events to_kvm_events(const PendingEvents& events);
PendingEvents from_kvm_events(const kvm_vcpu_events& events);

extern template void to_kvm_sregs(const VcpuState&, kvm_sregs&);
extern template void to_kvm_sregs(const VcpuState&, kvm_sregs2&);
extern template void from_kvm_sregs(const kvm_sregs&, VcpuState&);
extern template void from_kvm_sregs(const kvm_sregs2&, VcpuState&);

}  // namespace atl::cpu::kvm
