// Identification, time, model-specific registers, caches and waiting (SDM vol. 2).
//
// MONITOR and MWAIT exist if CPUID has them: MWAIT returns at once, as it may at any time.
#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/msr.h"
#include "cpu/soft/system/operand.h"

namespace atl::soft {
namespace {

constexpr u32 kXsaveHeaderEnd = 576;

/// Bytes that XSAVE needs for the components in `mask`, in standard or compacted format.
u32 xsave_size(const Core& core, u64 mask, bool compacted) {
  u32 size = kXsaveHeaderEnd;
  for (unsigned component = 2; component < 63; ++component) {
    if (!(mask >> component & 1)) continue;
    const CpuidEntry entry = core.cpuid->query(0xd, component);
    size = compacted ? size + entry.eax : std::max(size, entry.ebx + entry.eax);
  }
  return size;
}

/// Bits of CPUID that follow registers.
void fill_dynamic(const Core& core, u32 leaf, u32 subleaf, CpuidEntry& entry) {
  if (leaf == 1) {
    entry.ecx = (entry.ecx & ~(1u << 27)) | (core.cr4 & kCr4OSXSAVE ? 1u << 27 : 0);
    if (core.apic && !(core.apic->base_msr() & 1u << 11)) entry.edx &= ~(1u << 9);
  }
  if (leaf == 0xd && subleaf == 0) entry.ebx = xsave_size(core, core.xcr0, false);
  if (leaf == 0xd && subleaf == 1 && (entry.eax & 2)) entry.ebx = xsave_size(core, core.xcr0, true);
}

bool may_read_tsc(Core& core) {
  return core.cpl == 0 || !(core.cr4 & kCr4TSD) || core.raise(kGP, 0);
}

bool has_monitor(const Core& core) { return core.cpuid->query(1, 0).ecx & 8; }

/// INVPCID's descriptor, 16 bytes.
struct PcidDescriptor {
  u64 pcid;
  u64 linear;
};

bool invalidate(Core& core, u64 type, const PcidDescriptor& descriptor) {
  enum : u64 { kAddress, kSingle, kAllGlobal, kAll };
  if (type > kAll || (type <= kSingle && descriptor.pcid >> 12)) return core.raise(kGP, 0);
  if (type <= kSingle && descriptor.pcid && !(core.cr4 & kCr4PCIDE)) return core.raise(kGP, 0);
  if (type == kAddress && !is_canonical(descriptor.linear)) return core.raise(kGP, 0);
  const u16 space = descriptor.pcid & 0xfff;
  switch (type) {
    case kAddress: flush_space_page(core, space, descriptor.linear); break;
    case kSingle: flush_space(core, space); break;
    case kAllGlobal: flush_tlb(core, false); break;
    default: flush_spaces(core);
  }
  return true;
}

}  // namespace

bool sys_cpuid(Core& core, const Op&) {
  const u32 leaf = static_cast<u32>(core.gpr[kRax]), subleaf = ecx(core);
  CpuidEntry entry = core.cpuid->query(leaf, subleaf);
  fill_dynamic(core, leaf, subleaf, entry);
  core.gpr[kRax] = entry.eax;
  core.gpr[kRbx] = entry.ebx;
  core.gpr[kRcx] = entry.ecx;
  core.gpr[kRdx] = entry.edx;
  return true;
}

bool sys_rdtsc(Core& core, const Op&) {
  if (!may_read_tsc(core)) return false;
  set_edx_eax(core, read_tsc(core));
  return true;
}

bool sys_rdtscp(Core& core, const Op& op) {
  if (!sys_rdtsc(core, op)) return false;
  core.gpr[kRcx] = core.msr.tsc_aux & 0xffffffff;
  return true;
}

// There are no performance counters: CPUID leaf 0xa is empty.
bool sys_rdpmc(Core& core, const Op&) { return core.raise(kGP, 0); }

bool sys_rdpid(Core& core, const Op& op) {
  write_register(core, op.dst, 8, core.msr.tsc_aux);
  return true;
}

bool sys_rdmsr(Core& core, const Op&) {
  u64 value = 0;
  if (!require_cpl0(core)) return false;
  if (!read_msr(core, ecx(core), value)) return core.raise(kGP, 0);
  set_edx_eax(core, value);
  return true;
}

bool sys_wrmsr(Core& core, const Op&) {
  if (!require_cpl0(core)) return false;
  return write_msr(core, ecx(core), edx_eax(core)) || core.raise(kGP, 0);
}

// Caches are the host's, always coherent.
bool sys_invd(Core& core, const Op&) { return require_cpl0(core); }
bool sys_wbinvd(Core& core, const Op&) { return require_cpl0(core); }

bool sys_invlpg(Core& core, const Op& op) {
  if (!require_cpl0(core)) return false;
  u64 linear = effective_address(core, op);
  if (!code64(core)) linear = static_cast<u32>(core.seg[op.seg].base + linear);
  else if (op.seg == kFs || op.seg == kGs) linear += core.seg[op.seg].base;
  if (is_canonical(linear)) flush_tlb_page(core, linear);
  return true;
}

bool sys_invpcid(Core& core, const Op& op) {
  if (!require_cpl0(core)) return false;
  PcidDescriptor descriptor{};
  u64 linear = 0;
  if (!operand_linear(core, op, sizeof descriptor, false, linear)) return false;
  if (!read_slow(core, linear, &descriptor, sizeof descriptor)) return false;
  u64 type = code64(core) ? core.gpr[op.dst] : core.gpr[op.dst] & 0xffffffff;
  return invalidate(core, type, descriptor);
}

bool sys_pause(Core& core, const Op&) {
  if (core.apic) core.apic->note_pause();
  return true;
}

bool sys_hlt(Core& core, const Op&) {
  if (!require_cpl0(core)) return false;
  core.mp_state = MpState::Halted;
  ++core.stats.halts;
  core.attention.fetch_or(kAttendMode, std::memory_order_relaxed);
  return true;
}

bool sys_monitor(Core& core, const Op& op) {
  if (core.cpl != 0 || !has_monitor(core)) return core.raise(kUD);
  if (ecx(core) != 0) return core.raise(kGP, 0);
  const u64 offset = core.gpr[kRax] & address_mask(op.addrsize);
  u64 linear = 0;
  u8 byte = 0;
  return segment_linear(core, op.seg, offset, 1, false, linear) && read_mem(core, linear, byte);
}

bool sys_mwait(Core& core, const Op&) {
  if (core.cpl != 0 || !has_monitor(core)) return core.raise(kUD);
  return ecx(core) <= 1 || core.raise(kGP, 0);
}

bool sys_undefined(Core& core, const Op&) { return core.raise(kUD); }

}  // namespace atl::soft
