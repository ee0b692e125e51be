// A vCPU's creation, and its state in and out.
#include <algorithm>
#include <cstring>

#include "cpu/irqchip_text.h"
#include "cpu/kvm/registers.h"
#include "cpu/kvm/vcpu.h"
#include "cpu/spec.h"

namespace atl::cpu::kvm {

namespace {

CpuidEntries to_kvm_cpuid(const CpuidTable& table) {
  CpuidEntries entries;
  for (const CpuidEntry& e : table.entries()) {
    entries.push_back({.function = e.leaf,
                       .index = e.subleaf,
                       .flags = e.has_subleaf ? u32{KVM_CPUID_FLAG_SIGNIFCANT_INDEX} : 0,
                       .eax = e.eax,
                       .ebx = e.ebx,
                       .ecx = e.ecx,
                       .edx = e.edx});
  }
  return entries;
}

MsrValues from_kvm_msrs(const MsrEntries& entries) {
  MsrValues values;
  for (const kvm_msr_entry& e : entries) values.emplace_back(e.index, e.data);
  return values;
}

}  // namespace

KvmVcpu::KvmVcpu(VmShared& vm, u32 index, VcpuFd fd, std::unique_ptr<InstructionStepper> stepper)
    : vm_(vm),
      index_(index),
      fd_(std::move(fd)),
      stepper_(std::move(stepper)),
      memory_bus_(*vm.memory),
      port_bus_(*vm.ports) {}

Result<std::unique_ptr<KvmVcpu>> KvmVcpu::create(VmShared& vm, u32 index, const CpuidTable& cpuid,
                                                 std::unique_ptr<InstructionStepper> stepper) {
  VcpuFd fd = TRY(vm.fd.create_vcpu(index));
  TRY(fd.set_cpuid(to_kvm_cpuid(cpuid)));
  std::unique_ptr<KvmVcpu> vcpu(new KvmVcpu(vm, index, std::move(fd), std::move(stepper)));
  vcpu->power_on_msrs_ = from_kvm_msrs(TRY(vcpu->fd_.msrs(vm.msr_indices)));
  std::erase_if(vcpu->power_on_msrs_, [](const auto& msr) { return msr.first == kMsrTsc || msr.first == kMsrTscDeadline; });
  return vcpu;
}

/// The part that an instruction may change or depend on: no APIC, no MSRs.
Status KvmVcpu::read_registers(VcpuState& state) {
  from_kvm_regs(TRY(fd_.regs()), state);
  if (vm_.has_sregs2) {
    from_kvm_sregs(TRY(fd_.sregs2()), state);
  } else {
    from_kvm_sregs(TRY(fd_.sregs()), state);
  }
  if (vm_.has_xcrs) state.xcr0 = TRY(fd_.xcrs()).xcrs[0].value;
  if (vm_.has_debugregs) from_kvm_debugregs(TRY(fd_.debugregs()), state);
  std::vector<u8> area = TRY(fd_.xsave(vm_.xsave_size));
  std::memcpy(state.xsave.bytes.data(), area.data(), state.xsave.bytes.size());
  state.events = from_kvm_events(TRY(fd_.events()));
  return {};
}

Status KvmVcpu::write_sregs(const VcpuState& state) {
  if (vm_.has_sregs2) {
    kvm_sregs2 sregs{};
    to_kvm_sregs(state, sregs);
    return fd_.set_sregs2(sregs);
  }
  kvm_sregs sregs = TRY(fd_.sregs());  // keeps the pending interrupt, which saved state has among the events
  to_kvm_sregs(state, sregs);
  return fd_.set_sregs(sregs);
}

Status KvmVcpu::write_xsave(const XsaveArea& area) {
  std::vector<u8> bytes(std::max<u64>(vm_.xsave_size, area.bytes.size()));
  std::memcpy(bytes.data(), area.bytes.data(), area.bytes.size());
  return fd_.set_xsave(bytes);
}

Status KvmVcpu::write_registers(const VcpuState& state) {
  TRY(write_sregs(state));
  TRY(fd_.set_regs(to_kvm_regs(state)));
  if (vm_.has_xcrs) TRY(fd_.set_xcrs({.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = state.xcr0}}}));
  TRY(write_xsave(state.xsave));
  if (vm_.has_debugregs) TRY(fd_.set_debugregs(to_kvm_debugregs(state)));
  return {};
}

Result<VcpuState> KvmVcpu::get_state() {
  VcpuState state;
  TRY(read_registers(state));
  state.mp_state = static_cast<MpState>(std::min<u32>(TRY(fd_.mp_state()).mp_state, KVM_MP_STATE_SIPI_RECEIVED));
  state.msrs = from_kvm_msrs(TRY(fd_.msrs(vm_.msr_indices)));
  kvm_lapic_state lapic = TRY(fd_.lapic());
  std::memcpy(state.lapic.data(), lapic.regs, state.lapic.size());
  return state;
}

/// The order matters: APIC_BASE (in sregs) decides what the APIC's page means, the page and the TSC what the deadline means.
Status KvmVcpu::set_state(const VcpuState& state) {
  TRY(write_registers(state));
  ApicPage page = state.lapic;
  if (is_blank_apic_page(page)) page = reset_apic_page(index_);
  kvm_lapic_state lapic;
  std::memcpy(lapic.regs, page.data(), page.size());
  TRY(fd_.set_lapic(lapic));
  TRY(write_msrs(state.msrs));
  TRY(fd_.set_mp_state({.mp_state = static_cast<u32>(state.mp_state)}));
  return fd_.set_events(to_kvm_events(state.events));
}

/// Registers that the state does not have get their power-on values, so that a reset leaves nothing behind.
Status KvmVcpu::write_msrs(const MsrValues& values) {
  MsrEntries entries;
  for (auto [index, value] : power_on_msrs_) {
    bool given = std::ranges::find(values, index, &MsrValues::value_type::first) != values.end();
    if (!given) entries.push_back({.index = index, .data = value});
  }
  for (auto [index, value] : values) {
    if (index != kMsrTscDeadline) entries.push_back({.index = index, .data = value});
  }
  auto deadline = std::ranges::find(values, u32{kMsrTscDeadline}, &MsrValues::value_type::first);
  if (deadline != values.end()) entries.push_back({.index = kMsrTscDeadline, .data = deadline->second});
  return fd_.set_msrs(entries);
}

/// Runs the instruction at RIP in the interpreter. Cancelled: it ended in a triple fault.
Status KvmVcpu::step_instruction() {
  VcpuState before;
  TRY(read_registers(before));
  before.msrs = from_kvm_msrs(TRY(fd_.msrs(vm_.stepper_msrs)));
  VcpuState after = before;
  TRY(stepper_->step(after));
  TRY(fd_.set_regs(to_kvm_regs(after)));
  if (after.seg != before.seg || after.tr != before.tr || after.ldtr != before.ldtr || after.gdtr != before.gdtr ||
      after.idtr != before.idtr || after.cr0 != before.cr0 || after.cr2 != before.cr2 || after.cr3 != before.cr3 ||
      after.cr4 != before.cr4 || after.cr8 != before.cr8 || after.efer != before.efer) {
    TRY(write_sregs(after));
  }
  if (after.xcr0 != before.xcr0) TRY(fd_.set_xcrs({.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = after.xcr0}}}));
  if (after.xsave != before.xsave) TRY(write_xsave(after.xsave));
  if (after.events != before.events) TRY(fd_.set_events(to_kvm_events(after.events)));
  return {};
}

}  // namespace atl::cpu::kvm
