#include "cpu/soft/system/control_registers.h"

#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/mmu/walk.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/operand.h"
#include "cpu/soft/system/segments.h"

namespace atl::soft {
namespace {

constexpr u64 kCr0Known =
    kCr0PE | kCr0MP | kCr0EM | kCr0TS | kCr0ET | kCr0NE | kCr0WP | kCr0AM | kCr0NW | kCr0CD | kCr0PG;

/// CR4 bits that depend on a CPUID bit. VME and PVI are not there, and CPUID must not offer them.
struct Cr4Feature {
  u64 bit;
  u32 leaf;
  u32 CpuidEntry::* reg;
  unsigned cpuid_bit;
};
constexpr Cr4Feature kCr4Features[] = {
    {kCr4TSD, 1, &CpuidEntry::edx, 4},        {kCr4DE, 1, &CpuidEntry::edx, 2},
    {kCr4PSE, 1, &CpuidEntry::edx, 3},        {kCr4PAE, 1, &CpuidEntry::edx, 6},
    {kCr4MCE, 1, &CpuidEntry::edx, 7},        {kCr4PGE, 1, &CpuidEntry::edx, 13},
    {kCr4OSFXSR, 1, &CpuidEntry::edx, 24},    {kCr4OSXMMEXCPT, 1, &CpuidEntry::edx, 25},
    {kCr4PCIDE, 1, &CpuidEntry::ecx, 17},     {kCr4OSXSAVE, 1, &CpuidEntry::ecx, 26},
    {kCr4FSGSBASE, 7, &CpuidEntry::ebx, 0},   {kCr4SMEP, 7, &CpuidEntry::ebx, 7},
    {kCr4SMAP, 7, &CpuidEntry::ebx, 20},      {kCr4UMIP, 7, &CpuidEntry::ecx, 2},
};

bool bad_value(Core& core) { return core.raise(kGP, 0); }

bool pae_paging(u64 cr0, u64 cr4, u64 efer) { return (cr0 & kCr0PG) && (cr4 & kCr4PAE) && !(efer & kEferLME); }

/// SDM vol. 3, section 11.8.5: what must hold to switch IA-32e mode on.
bool may_enter_long_mode(const Core& core) {
  bool tss16 = (core.tr.type() & ~2) == kTss16;
  return (core.cr4 & kCr4PAE) && !core.seg[kCs].l() && !tss16;
}

bool may_write_cr0(const Core& core, u64 value) {
  if (value >> 32) return false;
  if ((value & kCr0PG) && !(value & kCr0PE)) return false;
  if ((value & kCr0NW) && !(value & kCr0CD)) return false;
  const u64 changed = core.cr0 ^ value;
  if (!(changed & kCr0PG)) return true;
  if (value & kCr0PG) return !(core.efer & kEferLME) || may_enter_long_mode(core);
  return !code64(core) && !(core.cr4 & kCr4PCIDE);
}

bool may_write_cr4(const Core& core, u64 value) {
  if (value & ~cr4_mask(core)) return false;
  if (core.long_mode && !(value & kCr4PAE)) return false;
  bool sets_pcide = (value & ~core.cr4) & kCr4PCIDE;
  return !sets_pcide || (core.long_mode && !(core.cr3 & 0xfff));
}

u64 physical_mask(const Core& core) { return (u64{1} << core.tlb.physical_bits) - 1; }

bool write_cr8(Core& core, u64 value) {
  if (value > 15) return bad_value(core);
  if (core.apic) core.apic->set_cr8(static_cast<u8>(value));
  return true;
}

bool umip_blocks(const Core& core) { return core.cpl != 0 && (core.cr4 & kCr4UMIP); }

}  // namespace

u64 cr4_mask(const Core& core) {
  u64 mask = kCr4PCE;
  for (const Cr4Feature& feature : kCr4Features)
    if (core.cpuid->query(feature.leaf, 0).*feature.reg >> feature.cpuid_bit & 1) mask |= feature.bit;
  return mask;
}

bool write_cr0(Core& core, u64 value) {
  if (!may_write_cr0(core, value)) return bad_value(core);
  value = (value & kCr0Known) | kCr0ET;
  const u64 changed = core.cr0 ^ value;
  if (pae_paging(value, core.cr4, core.efer) && (changed & (kCr0PG | kCr0CD | kCr0NW)) && !load_pdptes(core, core.cr3))
    return bad_value(core);
  core.cr0 = value;
  if (value & kCr0PG) core.efer |= core.efer & kEferLME ? u64{kEferLMA} : 0;
  else core.efer &= ~u64{kEferLMA};
  if (changed & (kCr0PG | kCr0PE | kCr0WP)) flush_tlb(core, false);
  update_mode(core);
  return true;
}

bool write_cr3(Core& core, u64 value) {
  const bool keeps = core.long_mode && (core.cr4 & kCr4PCIDE) && value >> 63;
  if (core.long_mode) {
    if (keeps) value &= ~(u64{1} << 63);
    if (value & ~physical_mask(core)) return bad_value(core);
  } else {
    value &= 0xffffffff;
    if (pae_paging(core.cr0, core.cr4, core.efer) && !load_pdptes(core, value)) return bad_value(core);
  }
  core.cr3 = value;
  switch_space(core, keeps);
  return true;
}

bool write_cr4(Core& core, u64 value) {
  if (!may_write_cr4(core, value)) return bad_value(core);
  const u64 changed = core.cr4 ^ value;
  constexpr u64 kPaging = kCr4PSE | kCr4PAE | kCr4PGE | kCr4SMEP | kCr4SMAP | kCr4PCIDE;
  if (pae_paging(core.cr0, value, core.efer) && (changed & kPaging) && !load_pdptes(core, core.cr3)) return bad_value(core);
  core.cr4 = value;
  if (changed & kPaging) flush_tlb(core, false);
  update_mode(core);
  return true;
}

bool write_efer(Core& core, u64 value) {
  const u32 features = core.cpuid->query(0x80000001, 0).edx;
  u64 known = kEferSCE;
  if (features & 1u << 29) known |= kEferLME | kEferLMA;
  if (features & 1u << 20) known |= kEferNXE;
  if (value & ~known) return false;
  if (core.paging && ((core.efer ^ value) & kEferLME)) return false;
  const u64 changed = core.efer ^ value;
  core.efer = (value & ~u64{kEferLMA}) | (core.efer & kEferLMA);
  if (changed & kEferNXE) flush_tlb(core, false);
  update_mode(core);
  return true;
}

bool consistent_xcr0(u64 value) {
  constexpr u64 kX87 = 1, kSse = 2, kAvx = 4, kWide = 0xe0;
  if (!(value & kX87) || ((value & kAvx) && !(value & kSse))) return false;
  return !(value & kWide) || ((value & kWide) == kWide && (value & kAvx));
}

bool valid_xcr0(const Core& core, u64 value) {
  const CpuidEntry leaf = core.cpuid->query(0xd, 0);
  const u64 supported = leaf.eax | u64{leaf.edx} << 32;
  constexpr u64 kX87 = 1;
  return !(value & ~(supported | kX87)) && consistent_xcr0(value);
}

bool sys_mov_to_cr(Core& core, const Op& op) {
  if (op.extra > 4 && op.extra != 8) return core.raise(kUD);
  if (!require_cpl0(core)) return false;
  u64 value = code64(core) ? core.gpr[op.src] : core.gpr[op.src] & 0xffffffff;
  switch (op.extra) {
    case 0: return write_cr0(core, value);
    case 2: core.cr2 = value; return true;
    case 3: return write_cr3(core, value);
    case 4: return write_cr4(core, value);
    case 8: return write_cr8(core, value);
    default: return core.raise(kUD);
  }
}

bool sys_mov_from_cr(Core& core, const Op& op) {
  if (op.extra == 1 || (op.extra > 4 && op.extra != 8)) return core.raise(kUD);
  if (!require_cpl0(core)) return false;
  u64 value = 0;
  switch (op.extra) {
    case 0: value = core.cr0; break;
    case 2: value = core.cr2; break;
    case 3: value = core.cr3; break;
    case 4: value = core.cr4; break;
    case 8: value = core.apic ? core.apic->cr8() : 0; break;
    default: return core.raise(kUD);
  }
  write_register(core, op.dst, code64(core) ? 8 : 4, value);
  return true;
}

bool sys_lmsw(Core& core, const Op& op) {
  if (!require_cpl0(core)) return false;
  u64 value = 0;
  if (!read_operand(core, op, op.dst, 2, value)) return false;
  // PE can be set but not cleared.
  return write_cr0(core, (core.cr0 & ~u64{14}) | (value & 15));
}

bool sys_smsw(Core& core, const Op& op) {
  if (umip_blocks(core)) return core.raise(kGP, 0);
  return write_operand(core, op, op.dst, op.dst == kNoReg ? 2 : op.opsize, core.cr0);
}

bool sys_clts(Core& core, const Op&) {
  if (!require_cpl0(core)) return false;
  core.cr0 &= ~u64{kCr0TS};
  return true;
}

bool sys_xgetbv(Core& core, const Op&) {
  if (!(core.cr4 & kCr4OSXSAVE)) return core.raise(kUD);
  const bool has_xinuse = core.cpuid->query(0xd, 1).eax & 4;
  // XINUSE may say in use for components in their initial state.
  if (ecx(core) > (has_xinuse ? 1u : 0u)) return core.raise(kGP, 0);
  set_edx_eax(core, core.xcr0);
  return true;
}

bool sys_xsetbv(Core& core, const Op&) {
  if (!(core.cr4 & kCr4OSXSAVE)) return core.raise(kUD);
  if (core.cpl != 0 || ecx(core) != 0 || !valid_xcr0(core, edx_eax(core))) return core.raise(kGP, 0);
  core.xcr0 = edx_eax(core);
  return true;
}

}  // namespace atl::soft
