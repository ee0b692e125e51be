// A hostile saved state over hostile descriptor tables, page tables and code: it is refused by name, or the guest may only
// hurt itself.
//
// Input: the registers one after the other (see below), then bytes that fill the first pages of RAM, again and again.
#include "cpu/soft/exec/test_machine.h"
#include "cpu/soft/system/events.h"
#include "cpu/soft/system/state.h"
#include "fuzz_input.h"

namespace {

using namespace atl;
using namespace atl::soft;
using fuzz::Input;

constexpr u64 kLowRam = 0x10000;

/// Mostly an address in the low RAM that the input fills, sometimes any canonical one, seldom anything.
u64 address(Input& in) {
  const u8 how = in.byte();
  u64 value = in.word();
  if (how & 0x11) return value;
  value |= u64{in.dword()} << 16;
  return how < 0xfc ? static_cast<u64>(static_cast<i64>(value << 16) >> 16) : value << 16;
}

Segment segment(Input& in) {
  Segment s;
  s.selector = in.word();
  s.attributes = in.word() & 0xf0ff;
  s.unusable = in.byte() & 1;
  s.limit = in.dword();
  s.base = in.byte() & 1 ? address(in) : 0;
  return s;
}

DescriptorTable table(Input& in) { return {address(in), in.word()}; }

void control_registers(Input& in, VcpuState& s) {
  s.cr0 = (u64{in.dword()} & 0xe005003f) | (in.byte() & 1 ? kCr0PE : 0);
  s.cr3 = in.word() & 0xf018u;
  s.cr4 = in.dword() & 0x370ffc;
  s.efer = in.word() & 0xd01;
  if ((s.efer & kEferLME) && (s.cr0 & kCr0PG)) s.efer |= kEferLMA, s.cr4 |= kCr4PAE;
  else s.efer &= ~u64{kEferLMA}, s.cr4 &= ~u64{kCr4PCIDE};
}

VcpuState state_of(Input& in) {
  VcpuState s = reset_state(true);
  for (u64& reg : s.gpr) reg = address(in);
  s.rip = address(in);
  s.rflags = (in.dword() & 0x3f7fd5) | 2;
  for (Segment& reg : s.seg) reg = segment(in);
  s.ldtr = segment(in);
  s.tr = segment(in);
  s.gdtr = table(in);
  s.idtr = table(in);
  control_registers(in, s);
  s.dr[0] = address(in);
  s.dr7 = in.dword();
  s.events.interrupt_shadow = in.byte() & 1;
  s.events.in_smm = in.byte() & 1;
  s.smbase = in.dword() & 0xffff;
  s.msrs = {{0x10, address(in)}, {in.dword(), address(in)}, {0xc0000080 + (in.byte() & 7), address(in)}};
  return s;
}

void fill_ram(TestMachine& m, std::span<const u8> pattern) {
  for (u64 at = 0; at < kLowRam; ++at) m.ram()[at] = pattern.empty() ? 0 : pattern[at % pattern.size()];
  m.vm().code.wrote(0, kLowRam);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  static TestMachine m;
  Core& core = m.core();
  Input in(data, size);
  reset_core(core, true);
  const VcpuState state = state_of(in);
  const u8 vector = in.byte();
  fill_ram(m, in.bytes(4096));
  core.attention = 0;
  if (!import_state(core, state)) return 0;
  for (int i = 0; i < 32; ++i)
    if (!step_one(core) || core.mp_state != cpu::MpState::Runnable) break;
  VcpuState after;
  export_state(core, after);
  if (!deliver_interrupt(core, vector)) return 0;
  for (int i = 0; i < 8; ++i)
    if (!step_one(core) || core.mp_state != cpu::MpState::Runnable) break;
  return 0;
}
