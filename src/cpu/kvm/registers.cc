#include "cpu/kvm/registers.h"

#include <algorithm>

namespace atl::cpu::kvm {

namespace {

/// kvm_regs names its members; this is their order in Gpr.
constexpr __u64 kvm_regs::*kGprs[] = {&kvm_regs::rax, &kvm_regs::rcx, &kvm_regs::rdx, &kvm_regs::rbx,
                                      &kvm_regs::rsp, &kvm_regs::rbp, &kvm_regs::rsi, &kvm_regs::rdi,
                                      &kvm_regs::r8,  &kvm_regs::r9,  &kvm_regs::r10, &kvm_regs::r11,
                                      &kvm_regs::r12, &kvm_regs::r13, &kvm_regs::r14, &kvm_regs::r15};

kvm_segment to_kvm(const Segment& s) {
  return {.base = s.base,
          .limit = s.limit,
          .selector = s.selector,
          .type = s.type(),
          .present = s.present(),
          .dpl = s.dpl(),
          .db = s.db(),
          .s = s.s(),
          .l = s.l(),
          .g = static_cast<u8>(s.attributes >> 15),
          .avl = static_cast<u8>(s.attributes >> 12 & 1),
          .unusable = s.unusable};
}

Segment from_kvm(const kvm_segment& s) {
  auto attributes = static_cast<u16>((s.type & 15) | (s.s & 1) << 4 | (s.dpl & 3) << 5 | (s.present & 1) << 7 |
                                     (s.avl & 1) << 12 | (s.l & 1) << 13 | (s.db & 1) << 14 | (s.g & 1) << 15);
  return {.selector = s.selector, .attributes = attributes, .unusable = s.unusable != 0, .limit = s.limit, .base = s.base};
}

kvm_dtable to_kvm(const DescriptorTable& t) { return {.base = t.base, .limit = t.limit}; }
DescriptorTable from_kvm(const kvm_dtable& t) { return {.base = t.base, .limit = t.limit}; }

}  // namespace

kvm_regs to_kvm_regs(const VcpuState& state) {
  kvm_regs regs{};
  for (size_t i = 0; i < state.gpr.size(); ++i) regs.*kGprs[i] = state.gpr[i];
  regs.rip = state.rip;
  regs.rflags = state.rflags;
  return regs;
}

void from_kvm_regs(const kvm_regs& regs, VcpuState& state) {
  for (size_t i = 0; i < state.gpr.size(); ++i) state.gpr[i] = regs.*kGprs[i];
  state.rip = regs.rip;
  state.rflags = regs.rflags;
}

template <class Sregs>
void to_kvm_sregs(const VcpuState& state, Sregs& out) {
  out.es = to_kvm(state.seg[kEs]);
  out.cs = to_kvm(state.seg[kCs]);
  out.ss = to_kvm(state.seg[kSs]);
  out.ds = to_kvm(state.seg[kDs]);
  out.fs = to_kvm(state.seg[kFs]);
  out.gs = to_kvm(state.seg[kGs]);
  out.ldt = to_kvm(state.ldtr);
  out.tr = to_kvm(state.tr);
  out.gdt = to_kvm(state.gdtr);
  out.idt = to_kvm(state.idtr);
  out.cr0 = state.cr0;
  out.cr2 = state.cr2;
  out.cr3 = state.cr3;
  out.cr4 = state.cr4;
  out.cr8 = state.cr8;
  out.efer = state.efer;
  out.apic_base = state.apic_base;
}

template <class Sregs>
void from_kvm_sregs(const Sregs& sregs, VcpuState& state) {
  state.seg[kEs] = from_kvm(sregs.es);
  state.seg[kCs] = from_kvm(sregs.cs);
  state.seg[kSs] = from_kvm(sregs.ss);
  state.seg[kDs] = from_kvm(sregs.ds);
  state.seg[kFs] = from_kvm(sregs.fs);
  state.seg[kGs] = from_kvm(sregs.gs);
  state.ldtr = from_kvm(sregs.ldt);
  state.tr = from_kvm(sregs.tr);
  state.gdtr = from_kvm(sregs.gdt);
  state.idtr = from_kvm(sregs.idt);
  state.cr0 = sregs.cr0;
  state.cr2 = sregs.cr2;
  state.cr3 = sregs.cr3;
  state.cr4 = sregs.cr4;
  state.cr8 = sregs.cr8;
  state.efer = sregs.efer;
  state.apic_base = sregs.apic_base;
}

template void to_kvm_sregs(const VcpuState&, kvm_sregs&);
template void to_kvm_sregs(const VcpuState&, kvm_sregs2&);
template void from_kvm_sregs(const kvm_sregs&, VcpuState&);
template void from_kvm_sregs(const kvm_sregs2&, VcpuState&);

kvm_debugregs to_kvm_debugregs(const VcpuState& state) {
  kvm_debugregs regs{.dr6 = state.dr6, .dr7 = state.dr7};
  std::ranges::copy(state.dr, regs.db);
  return regs;
}

void from_kvm_debugregs(const kvm_debugregs& regs, VcpuState& state) {
  std::ranges::copy(regs.db, state.dr.begin());
  state.dr6 = regs.dr6;
  state.dr7 = regs.dr7;
}

kvm_vcpu_events to_kvm_events(const PendingEvents& e) {
  kvm_vcpu_events out{};
  out.exception.injected = e.exception_injected;
  out.exception.nr = e.exception_vector;
  out.exception.has_error_code = e.exception_has_error;
  out.exception.error_code = e.exception_error;
  out.interrupt.injected = e.interrupt_injected;
  out.interrupt.nr = e.interrupt_vector;
  out.interrupt.shadow = e.interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0;
  out.nmi.pending = e.nmi_pending;
  out.nmi.injected = e.nmi_injected;
  out.nmi.masked = e.nmi_masked;
  out.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
  return out;
}

PendingEvents from_kvm_events(const kvm_vcpu_events& e) {
  return {.exception_injected = e.exception.injected || e.exception.pending,
          .exception_vector = e.exception.nr,
          .exception_has_error = e.exception.has_error_code != 0,
          .exception_error = e.exception.error_code,
          .interrupt_injected = e.interrupt.injected != 0,
          .interrupt_vector = e.interrupt.nr,
          .nmi_pending = e.nmi.pending != 0,
          .nmi_injected = e.nmi.injected != 0,
          .nmi_masked = e.nmi.masked != 0,
          .interrupt_shadow = e.interrupt.shadow != 0};
}

}  // namespace atl::cpu::kvm
