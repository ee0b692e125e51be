#include "cpu/soft/system/msr.h"

#include <algorithm>

#include "cpu/soft/exec/address.h"
#include "cpu/soft/irq/interrupt_chips.h"
#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/soft/system/control_registers.h"

namespace atl::soft {
namespace {

using Msrs = Core::Msrs;

constexpr unsigned kVariableMtrrs = 8;

/// CPUID leaf 7, EDX.
bool has_leaf7_edx(const Core& core, unsigned bit) { return core.cpuid->query(7, 0).edx >> bit & 1; }

// -- registers that are a field of Core::Msrs ------------------------------------------------------------------------------

struct Field {
  u32 index;
  u64 Msrs::* field;
  u64 mask;         // bits that may be set
  bool canonical;   // an address
};
constexpr u64 kAll = ~u64{0};
constexpr Field kFields[] = {
    {kMsrSpecCtrl, &Msrs::spec_ctrl, 0x407, false},
    {kMsrSysenterCs, &Msrs::sysenter_cs, 0xffffffff, false},
    {kMsrSysenterEsp, &Msrs::sysenter_esp, kAll, true},
    {kMsrSysenterEip, &Msrs::sysenter_eip, kAll, true},
    {kMsrStar, &Msrs::star, kAll, false},
    {kMsrLstar, &Msrs::lstar, kAll, true},
    {kMsrCstar, &Msrs::cstar, kAll, true},
    {kMsrSfmask, &Msrs::sfmask, 0xffffffff, false},
    {kMsrKernelGsBase, &Msrs::kernel_gs_base, kAll, true},
    {kMsrTscAux, &Msrs::tsc_aux, 0xffffffff, false},
};

const Field* find_field(u32 index) {
  auto it = std::ranges::find(kFields, index, &Field::index);
  return it == std::end(kFields) ? nullptr : it;
}

// -- registers with a fixed value ------------------------------------------------------------------------------------------

enum class OnWrite : u8 { Fault, Ignore };

/// What firmware and kernels probe without looking at CPUID. Writes that they make are ignored, as the features behind
/// these bits (power, temperature, chip-set errata) are not there.
struct Fixed {
  u32 first, last;
  u64 value;
  OnWrite on_write;
};
constexpr Fixed kFixed[] = {
    {0x0, 0x1, 0, OnWrite::Ignore},                        // P5_MC_ADDR, P5_MC_TYPE
    {kMsrPlatformId, kMsrPlatformId, 0, OnWrite::Fault},
    {0x2a, 0x2a, 0, OnWrite::Ignore},                      // EBL_CR_POWERON
    {0x34, 0x34, 0, OnWrite::Fault},                       // SMI_COUNT
    {kMsrFeatureControl, kMsrFeatureControl, 1, OnWrite::Fault},  // locked: no VMX
    {0x79, 0x79, 0, OnWrite::Ignore},                      // BIOS_UPDT_TRIG
    {0xce, 0xce, 0, OnWrite::Fault},                       // PLATFORM_INFO
    {kMsrMtrrCap, kMsrMtrrCap, 0x500 | kVariableMtrrs, OnWrite::Fault},  // fixed ranges, write combining
    {kMsrMcgCap, kMsrMcgCap, 0, OnWrite::Fault},           // no machine-check banks
    {kMsrMcgStatus, kMsrMcgStatus, 0, OnWrite::Ignore},
    {0x198, 0x198, 0x4'0000'03e8, OnWrite::Fault},         // PERF_STATUS
    {0x199, 0x19c, 0, OnWrite::Ignore},                    // PERF_CTL, clock modulation, thermal interrupt and status
    {0x1c9, 0x1c9, 0, OnWrite::Fault},                     // last-branch top of stack
    {0x1d9, 0x1d9, 0, OnWrite::Ignore},                    // DEBUGCTL: no branch records, no BTF
    {0x1db, 0x1de, 0, OnWrite::Fault},                     // last branch and interrupt, from and to
    {0xc0010010, 0xc0010010, 0, OnWrite::Ignore},          // SYSCFG
    {0xc0010015, 0xc0010015, 1 << 24, OnWrite::Ignore},    // HWCR: the TSC runs at the base frequency
    {0xc001001a, 0xc001001a, 0, OnWrite::Ignore},          // TOP_MEM
    {0xc001001d, 0xc001001d, 0, OnWrite::Ignore},          // TOP_MEM2
    {0xc001001f, 0xc001001f, 0, OnWrite::Ignore},          // NB_CFG
    {0xc0010055, 0xc0010055, 0, OnWrite::Ignore},          // interrupt pending message
    {0xc0010058, 0xc0010058, 0, OnWrite::Ignore},          // MMIO configuration base
    {0xc0010061, 0xc0010071, 0, OnWrite::Ignore},          // P-states
    {0xc0010140, 0xc0010141, 0, OnWrite::Fault},           // OS-visible workarounds: none
    {0xc0011020, 0xc0011028, 0, OnWrite::Ignore},          // LS_CFG to ... : errata switches
    {0xc0011029, 0xc0011029, 2, OnWrite::Ignore},          // DE_CFG: LFENCE serializes
    {0xc001102a, 0xc001102f, 0, OnWrite::Ignore},
};

const Fixed* find_fixed(u32 index) {
  auto it = std::ranges::find_if(kFixed, [&](const Fixed& row) { return index >= row.first && index <= row.last; });
  return it == std::end(kFixed) ? nullptr : it;
}

// -- memory types ----------------------------------------------------------------------------------------------------------

/// UC, WC, WT, WP, WB; PAT knows UC- (7) too.
bool memory_type(u8 type, bool pat) { return type <= 1 || (type >= 4 && type <= 6) || (pat && type == 7); }

bool memory_types(u64 value, bool pat) {
  for (unsigned i = 0; i < 8; ++i)
    if (!memory_type(static_cast<u8>(value >> i * 8), pat)) return false;
  return true;
}

/// Place of a fixed-range MTRR in Msrs::mtrr_fixed, or -1.
int fixed_mtrr(u32 index) {
  if (index == kMsrMtrrFix64k) return 0;
  if (index == 0x258 || index == 0x259) return static_cast<int>(index - 0x258 + 1);
  if (index >= 0x268 && index <= 0x26f) return static_cast<int>(index - 0x268 + 3);
  return -1;
}

bool is_variable_mtrr(u32 index) { return index >= kMsrMtrrPhysBase0 && index < kMsrMtrrPhysBase0 + 2 * kVariableMtrrs; }

bool write_variable_mtrr(Core& core, u32 index, u64 value) {
  const bool base = !(index & 1);
  const u64 reserved = base ? 0xf00 : 0x7ff;
  if ((value & reserved) || value >> 52 || (base && !memory_type(static_cast<u8>(value), false))) return false;
  core.msr.mtrr_phys[index - kMsrMtrrPhysBase0] = value;
  return true;
}

bool write_mtrr_default(Core& core, u64 value) {
  if ((value & ~u64{0xcff}) || !memory_type(static_cast<u8>(value), false)) return false;
  core.msr.mtrr_def_type = value;
  return true;
}

// -- time ------------------------------------------------------------------------------------------------------------------

/// Moving the TSC moves TSC_ADJUST by as much (SDM vol. 3, section 18.17.3).
void shift_tsc(Core& core, u64 delta) {
  core.msr.tsc_offset += delta;
  core.msr.tsc_adjust += delta;
  if (core.apic) core.apic->tsc_offset_changed();
}

// -- registers with code of their own ----------------------------------------------------------------------------------------

constexpr u64 kMiscEnableKnown = 0x4'01d5'1889, kMiscEnableFixed = 0x1800;  // no branch trace store, no PEBS

/// Bits by which an Intel processor says it does not suffer from this or that: no instruction is executed speculatively on
/// the guest's behalf. RDCL, VM-entry L1D, SSB, MDS, page-size change, TAA, SBDR, FBSDP, PSDP, BHI, GDS, RFDS.
constexpr u64 kArchCapabilities = 1u << 0 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 13 | 1u << 14 |
                                  1u << 15 | 1u << 20 | 1u << 26 | 1u << 27;

bool read_special(const Core& core, u32 index, u64& value) {
  switch (index) {
    case kMsrTsc: value = read_tsc(core); return true;
    case kMsrTscAdjust: value = core.msr.tsc_adjust; return true;
    case kMsrApicBase: value = core.apic ? core.apic->base_msr() : 0xfee00000; return true;
    case kMsrBiosSignId: value = u64{1} << 32; return true;
    case kMsrArchCapabilities: value = kArchCapabilities; return has_leaf7_edx(core, 29);
    case kMsrMiscEnable: value = core.msr.misc_enable | kMiscEnableFixed; return true;
    case kMsrPat: value = core.msr.pat; return true;
    case kMsrMtrrDefType: value = core.msr.mtrr_def_type; return true;
    case kMsrTscDeadline: value = core.apic ? core.apic->tsc_deadline() : 0; return core.apic != nullptr;
    case kMsrXss: value = 0; return core.cpuid->query(0xd, 1).eax & 8;
    case kMsrEfer: value = core.efer; return true;
    case kMsrFsBase: value = core.seg[kFs].base; return true;
    case kMsrGsBase: value = core.seg[kGs].base; return true;
    default: return false;
  }
}

bool write_base(Core& core, SegReg reg, u64 value) {
  if (!is_canonical(value)) return false;
  core.seg[reg].base = value;
  return true;
}

bool write_special(Core& core, u32 index, u64 value) {
  switch (index) {
    case kMsrTsc: shift_tsc(core, value - read_tsc(core)); return true;
    case kMsrTscAdjust: shift_tsc(core, value - core.msr.tsc_adjust); return true;
    case kMsrApicBase: return core.apic && core.apic->set_base_msr(value);
    case kMsrBiosSignId: return true;  // the guest clears it before it asks CPUID for the revision
    case kMsrPredCmd: case 0x10b: return value <= 1;  // prediction barrier, L1D flush: nothing to do
    case kMsrMiscEnable: core.msr.misc_enable = value & kMiscEnableKnown; return true;
    case kMsrPat: if (!memory_types(value, true)) return false; core.msr.pat = value; return true;
    case kMsrMtrrDefType: return write_mtrr_default(core, value);
    case kMsrTscDeadline: if (core.apic) core.apic->set_tsc_deadline(value); return core.apic != nullptr;
    case kMsrXss: return value == 0 && (core.cpuid->query(0xd, 1).eax & 8);
    case kMsrEfer: return write_efer(core, value);
    case kMsrFsBase: return write_base(core, kFs, value);
    case kMsrGsBase: return write_base(core, kGs, value);
    default: return false;
  }
}

bool is_x2apic(u32 index) { return index >= kMsrX2apicBase && index <= kMsrX2apicBase + 0xff; }

// -- saved state -----------------------------------------------------------------------------------------------------------

/// In the order in which they are put back: TSC before TSC_ADJUST and TSC_DEADLINE.
constexpr u32 kSaved[] = {
    kMsrTsc, kMsrTscAdjust, kMsrMiscEnable, kMsrPat, kMsrMtrrDefType, kMsrTscDeadline, kMsrMtrrFix64k,
    0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
};

bool is_saved(u32 index) {
  return find_field(index) || is_variable_mtrr(index) || std::ranges::find(kSaved, index) != std::end(kSaved);
}

}  // namespace

u64 read_tsc(const Core& core) {
  TscSegment segment = core.tsc;
  return core.vm->tsc.now_ns(segment) + core.msr.tsc_offset;
}

u64 read_tsc(Core& core) {
  const u64 now_ns = core.vm->tsc.now_ns(core.tsc);
  if (core.vm->chips) core.vm->chips->timers().catch_up();
  return now_ns + core.msr.tsc_offset;
}

bool read_msr(const Core& core, u32 index, u64& value) {
  if (const Field* field = find_field(index)) {
    value = core.msr.*field->field;
    return true;
  }
  if (is_x2apic(index)) {
    auto result = core.apic ? core.apic->read_msr(index) : std::nullopt;
    value = result.value_or(0);
    return result.has_value();
  }
  if (is_variable_mtrr(index)) {
    value = core.msr.mtrr_phys[index - kMsrMtrrPhysBase0];
    return true;
  }
  if (int place = fixed_mtrr(index); place >= 0) {
    value = core.msr.mtrr_fixed[static_cast<unsigned>(place)];
    return true;
  }
  if (const Fixed* fixed = find_fixed(index)) {
    value = fixed->value;
    return true;
  }
  return read_special(core, index, value);
}

bool write_msr(Core& core, u32 index, u64 value) {
  if (const Field* field = find_field(index)) {
    if ((value & ~field->mask) || (field->canonical && !is_canonical(value))) return false;
    core.msr.*field->field = value;
    return true;
  }
  if (is_x2apic(index)) return core.apic && core.apic->write_msr(index, value);
  if (is_variable_mtrr(index)) return write_variable_mtrr(core, index, value);
  if (int place = fixed_mtrr(index); place >= 0) {
    if (!memory_types(value, false)) return false;
    core.msr.mtrr_fixed[static_cast<unsigned>(place)] = value;
    return true;
  }
  if (const Fixed* fixed = find_fixed(index)) return fixed->on_write == OnWrite::Ignore;
  return write_special(core, index, value);
}

MsrValues export_msrs(const Core& core) {
  MsrValues values;
  auto add = [&](u32 index) {
    u64 value = 0;
    if (read_msr(core, index, value)) values.emplace_back(index, value);
  };
  for (u32 index : kSaved) add(index);
  for (const Field& field : kFields) add(field.index);
  for (u32 i = 0; i < 2 * kVariableMtrrs; ++i) add(kMsrMtrrPhysBase0 + i);
  return values;
}

bool import_msr(Core& core, u32 index, u64 value) {
  if (!is_saved(index)) return true;
  if (index == kMsrTscDeadline && !core.apic) return true;
  if (index != kMsrTscAdjust) return write_msr(core, index, value);
  core.msr.tsc_adjust = value;  // says how the TSC came to be, does not move it again
  return true;
}

}  // namespace atl::soft
