#include "cpu/soft/system/state.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "cpu/soft/exec/address.h"
#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/mmu/walk.h"
#include "cpu/soft/native/xsave.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/soft/system/control_registers.h"
#include "cpu/soft/system/debug.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/msr.h"
#include "cpu/soft/system/smm.h"

namespace atl::soft {
namespace {

constexpr u32 kPendingEvents = kAttendNmi | kAttendInit | kAttendSipi | kAttendSmi | kAttendMode;

Error bad(std::string_view name, u64 value) {
  return Error(ErrorKind::Invalid, fmt::format("{} cannot be {:#x}", name, value));
}

/// Bits that no processor of this kind has, and combinations that none gets into.
Status check_control(const VcpuState& s) {
  constexpr u64 kCr0Known = 0xe005003f, kCr4Known = 0x370fff & ~(kCr4VME | kCr4PVI);
  constexpr u64 kEferKnown = kEferSCE | kEferLME | kEferLMA | kEferNXE;
  if ((s.cr0 & ~kCr0Known) || ((s.cr0 & kCr0PG) && !(s.cr0 & kCr0PE))) return bad("CR0", s.cr0);
  if (s.cr4 & ~kCr4Known) return bad("CR4", s.cr4);
  if (s.cr8 > 15) return bad("CR8", s.cr8);
  if (s.efer & ~kEferKnown) return bad("EFER", s.efer);
  bool long_mode = (s.efer & kEferLME) && (s.cr0 & kCr0PG);
  if (long_mode != bool(s.efer & kEferLMA)) return bad("EFER", s.efer);
  if (long_mode && !(s.cr4 & kCr4PAE)) return bad("CR4", s.cr4);
  if ((s.cr4 & kCr4PCIDE) && !long_mode) return bad("CR4", s.cr4);
  if (s.cr3 >> 52) return bad("CR3", s.cr3);
  if ((s.xcr0 & ~u64{0xe7}) || !consistent_xcr0(s.xcr0)) return bad("XCR0", s.xcr0);
  return {};
}

Status check_rest(const VcpuState& s) {
  constexpr u64 kFlagsKnown = 0x3f7fd7;
  if (s.rflags & ~kFlagsKnown) return bad("RFLAGS", s.rflags);
  if (!is_canonical(s.rip)) return bad("RIP", s.rip);
  if (s.dr6 >> 32) return bad("DR6", s.dr6);
  if (s.dr7 >> 32) return bad("DR7", s.dr7);
  for (const Segment& segment : s.seg)
    if (!is_canonical(segment.base)) return bad("a segment's base", segment.base);
  for (const Segment* segment : {&s.ldtr, &s.tr})
    if (!is_canonical(segment->base)) return bad("a system segment's base", segment->base);
  for (const DescriptorTable* table : {&s.gdtr, &s.idtr})
    if (!is_canonical(table->base)) return bad("a descriptor table's base", table->base);
  if (s.mp_state > MpState::SipiReceived) return bad("the activity state", static_cast<u64>(s.mp_state));
  return {};
}

void import_registers(Core& core, const VcpuState& s) {
  core.gpr = s.gpr;
  core.rip = core.next_rip = s.rip;
  core.set_rflags(s.rflags);
  core.seg = s.seg;
  core.ldtr = s.ldtr;
  core.tr = s.tr;
  core.gdtr = s.gdtr;
  core.idtr = s.idtr;
  core.cr0 = s.cr0 | kCr0ET;
  core.cr2 = s.cr2;
  core.cr3 = s.cr3;
  core.cr4 = s.cr4;
  core.efer = s.efer;
  core.xcr0 = s.xcr0;
  core.dr = s.dr;
  core.dr6 = s.dr6;
  core.dr7 = s.dr7;
}

/// What an instruction or its delivery leaves for the next one.
void clear_events(Core& core) {
  core.fault_pending = false;
  core.debug_hits = 0;
  core.leave_block = false;
  core.nmi_masked = false;
  core.interrupt_shadow = false;
  core.shadow_rip = kNoShadow;
}

/// Events that an accelerator had begun to inject start over: their instruction has not run, or they fault again.
void import_events(Core& core, const PendingEvents& events) {
  clear_events(core);
  core.nmi_masked = events.nmi_masked;
  core.interrupt_shadow = events.interrupt_shadow;
  core.shadow_rip = kNoShadow;
  core.attention.fetch_and(~kPendingEvents);
  if (events.nmi_pending || events.nmi_injected) core.attention.fetch_or(kAttendNmi);
  if (events.smi_pending) core.attention.fetch_or(kAttendSmi);
  set_smm_view(core, events.in_smm);
  attend_stepping(core);
}

/// Through all states of APIC_BASE that lead to the wanted one: x2APIC mode is only reached from xAPIC mode.
Status import_apic(Core& core, const VcpuState& s) {
  if (!core.apic) return {};
  constexpr u64 kX2apic = 1 << 10, kEnabled = 1 << 11;
  bool set = core.apic->set_base_msr(s.apic_base & ~(kX2apic | kEnabled));
  if (set && (s.apic_base & kEnabled)) set = core.apic->set_base_msr(s.apic_base & ~kX2apic);
  if (set && (s.apic_base & kX2apic)) set = core.apic->set_base_msr(s.apic_base);
  if (!set) return bad("APIC_BASE", s.apic_base);
  core.apic->import_page(s.lapic);
  core.apic->set_cr8(static_cast<u8>(s.cr8));
  return {};
}

/// Hidden state that saved state does not have: the PDPTEs, and everything that update_mode() derives.
void derive(Core& core) {
  update_mode(core);
  adopt_memory_map(core);
  if (core.paging && !core.long_mode && (core.cr4 & kCr4PAE)) load_pdptes(core, core.cr3);
}

}  // namespace

void export_registers(const Core& core, VcpuState& state) {
  state.gpr = core.gpr;
  state.rip = core.rip;
  state.rflags = core.rflags();
  state.seg = core.seg;
  state.ldtr = core.ldtr;
  state.tr = core.tr;
  state.gdtr = core.gdtr;
  state.idtr = core.idtr;
  state.cr0 = core.cr0;
  state.cr2 = core.cr2;
  state.cr3 = core.cr3;
  state.cr4 = core.cr4;
  state.efer = core.efer;
  state.xcr0 = core.xcr0;
  state.dr = core.dr;
  state.dr6 = core.dr6;
  state.dr7 = core.dr7;
  state.smbase = core.smbase;
}

Status import_registers_checked(Core& core, const VcpuState& state) {
  TRY(check_control(state));
  TRY(check_rest(state));
  import_registers(core, state);
  core.debug_hits = 0;
  core.shadow_rip = kNoShadow;
  derive(core);
  return {};
}

void export_state(const Core& core, VcpuState& state) {
  export_registers(core, state);
  export_xsave(core, state.xsave);
  state.events = {};
  state.events.nmi_pending = core.attention.load() & kAttendNmi;
  state.events.nmi_masked = core.nmi_masked;
  state.events.interrupt_shadow = core.interrupt_shadow || core.rip == core.shadow_rip;
  state.events.smi_pending = core.attention.load() & kAttendSmi;
  state.events.in_smm = core.smm;
  state.mp_state = core.mp_state;
  state.msrs = export_msrs(core);
  if (!core.apic) return;
  state.cr8 = core.apic->cr8();
  state.apic_base = core.apic->base_msr();
  core.apic->export_page(state.lapic);
}

Status import_state(Core& core, const VcpuState& state) {
  TRY(check_control(state));
  TRY(check_rest(state));
  TRY(check_xsave(state.xsave));
  TRY(import_apic(core, state));
  import_xsave(core, state.xsave);
  import_registers(core, state);
  core.mp_state = state.mp_state;
  core.smbase = state.smbase;
  import_events(core, state.events);
  for (auto [index, value] : state.msrs)
    if (!import_msr(core, index, value)) return bad(fmt::format("MSR {:#x}", index), value);
  derive(core);
  return {};
}

void reset_core(Core& core, bool bootstrap) {
  const VcpuState state = reset_state(bootstrap);
  import_registers(core, state);
  import_xsave(core, state.xsave);
  import_events(core, {});
  core.mp_state = state.mp_state;
  core.gpr[kRdx] = core.cpuid->query(1, 0).eax;
  core.msr = {};
  core.msr.tsc_offset = 0 - core.vm->clock.now_ns();
  core.smbase = state.smbase;
  if (core.apic) core.apic->tsc_offset_changed();
  derive(core);
}

void init_core(Core& core) {
  const bool bootstrap = core.index == 0;
  const u64 caches = core.cr0 & (kCr0CD | kCr0NW), xcr0 = core.xcr0;
  import_registers(core, reset_state(bootstrap));
  core.xcr0 = xcr0;
  core.cr0 = kCr0ET | caches;
  core.gpr[kRdx] = core.cpuid->query(1, 0).eax;
  clear_events(core);  // but not `attention`: the SIPI may be there already
  core.mp_state = bootstrap ? MpState::Runnable : MpState::InitReceived;
  derive(core);
}

void start_sipi(Core& core, u8 vector) {
  if (core.mp_state != MpState::InitReceived && core.mp_state != MpState::Uninitialized) return;
  Segment& cs = core.seg[kCs];
  cs.selector = static_cast<u16>(vector << 8);
  cs.base = u64{vector} << 12;
  core.rip = core.next_rip = 0;
  core.mp_state = MpState::Runnable;
}

}  // namespace atl::soft
