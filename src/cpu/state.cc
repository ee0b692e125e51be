#include "cpu/state.h"

#include "base/endian.h"
#include "cpu/spec.h"

namespace atl::cpu {
namespace {

Segment real_mode_segment(u16 attributes, u16 selector = 0) {
  return {.selector = selector, .attributes = attributes, .limit = 0xffff, .base = u64{selector} << 4};
}

/// FCW = 040h (the value after RESET; FNINIT makes it 37Fh), MXCSR = 1F80h, everything in its initial configuration.
XsaveArea reset_xsave() {
  XsaveArea area;
  store_le<u16>(&area.bytes[0], 0x40);
  store_le<u32>(&area.bytes[24], 0x1f80);
  area.bytes[512] = 3;  // XSTATE_BV: the legacy region is meant as it stands
  return area;
}

}  // namespace

VcpuState reset_state(bool bootstrap) {
  constexpr u16 kData = 0x93, kCode = 0x9b, kLdt = 0x82, kBusyTss32 = 0x8b;
  VcpuState state;
  state.rip = 0xfff0;
  state.gpr[kRdx] = 0x600;  // family 6: what firmware may look at before CPUID
  state.seg.fill(real_mode_segment(kData));
  state.seg[kCs] = {.selector = 0xf000, .attributes = kCode, .limit = 0xffff, .base = 0xffff0000};
  state.ldtr = real_mode_segment(kLdt);
  state.tr = real_mode_segment(kBusyTss32);
  state.gdtr = state.idtr = {.base = 0, .limit = 0xffff};
  state.cr0 = u64{kCr0CD} | kCr0NW | kCr0ET;
  state.apic_base = 0xfee00800 | (bootstrap ? 0x100 : 0);
  state.xsave = reset_xsave();
  state.mp_state = bootstrap ? MpState::Runnable : MpState::Uninitialized;
  return state;
}

}  // namespace atl::cpu
