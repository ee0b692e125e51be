// The architectural state of one vCPU, the same for every accelerator (Intel SDM vol. 3, chapters 2 and 3).
#pragma once

#include <array>
#include <utility>
#include <vector>

#include "base/types.h"

namespace atl::cpu {

enum Gpr : u8 { kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi, kR8, kR9, kR10, kR11, kR12, kR13, kR14, kR15 };
enum SegReg : u8 { kEs, kCs, kSs, kDs, kFs, kGs, kSegCount };

/// A segment register with its hidden part. `attributes` has the layout of a descriptor's bytes 5 and 6 without limit
/// bits: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15. `limit` is in bytes, already scaled.
struct Segment {
  u16 selector = 0;
  u16 attributes = 0;
  bool unusable = false;
  u32 limit = 0;
  u64 base = 0;
  bool operator==(const Segment&) const = default;

  u8 type() const { return attributes & 15; }
  bool s() const { return attributes & 0x10; }
  u8 dpl() const { return attributes >> 5 & 3; }
  bool present() const { return attributes & 0x80; }
  bool l() const { return attributes & 0x2000; }
  bool db() const { return attributes & 0x4000; }
};

struct DescriptorTable {
  u64 base = 0;
  u16 limit = 0;
  bool operator==(const DescriptorTable&) const = default;
};

/// An event that is being delivered or waits for delivery (kvm_vcpu_events).
struct PendingEvents {
  bool exception_injected = false;
  u8 exception_vector = 0;
  bool exception_has_error = false;
  u32 exception_error = 0;
  bool interrupt_injected = false;
  u8 interrupt_vector = 0;
  bool nmi_pending = false;
  bool nmi_injected = false;
  bool nmi_masked = false;
  bool interrupt_shadow = false;  // STI or MOV SS just ran
  bool smi_pending = false;
  bool in_smm = false;            // system management mode
  bool operator==(const PendingEvents&) const = default;
};

/// KVM's names for a vCPU's activity.
enum class MpState : u8 { Runnable, Uninitialized, InitReceived, Halted, SipiReceived };

using MsrValues = std::vector<std::pair<u32, u64>>;  // index, value

/// XSAVE area in standard (non-compacted) format: legacy region, header, AVX at offset 576, and what follows.
struct XsaveArea {
  alignas(64) std::array<u8, 4096> bytes{};
  bool operator==(const XsaveArea&) const = default;
};

struct VcpuState {
  std::array<u64, 16> gpr{};
  u64 rip = 0;
  u64 rflags = 2;
  std::array<Segment, kSegCount> seg;
  Segment ldtr, tr;
  DescriptorTable gdtr, idtr;
  u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
  u64 efer = 0;
  u64 apic_base = 0;
  u32 smbase = 0x30000;              // where a system management interrupt goes
  u64 xcr0 = 1;
  std::array<u64, 4> dr{};
  u64 dr6 = 0xffff0ff0, dr7 = 0x400;
  XsaveArea xsave;
  PendingEvents events;
  MpState mp_state = MpState::Runnable;
  MsrValues msrs;                    // all that the accelerator saves, but for EFER and APIC_BASE
  std::array<u8, 1024> lapic{};      // the local APIC's register page, as KVM_GET_LAPIC has it; all zero: power-on
};

/// The state after power-on or RESET (SDM vol. 3, table 10-1): real mode at f000:fff0.
VcpuState reset_state(bool bootstrap);

}  // namespace atl::cpu
