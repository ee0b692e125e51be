#include "cpu/soft/native/gate.h"

#include "cpu/soft/irq/interrupt_chips.h"
#include "cpu/soft/soft_vm.h"

namespace atl::soft {
namespace {

constexpr u32 kFpuErrorIrq = 13;
constexpr u64 kAvxState = 6;  // XCR0: SSE and AVX
constexpr u64 kWideState = 0xe6;  // and the three of AVX-512

bool device_available(Core& core) {
  if (core.cr0 & kCr0TS) [[unlikely]] return core.raise(kNM);
  return true;
}

/// VEX and EVEX are there in protected mode only, and with the state components that the instruction works on.
bool enter_extended(Core& core, u64 components) {
  bool allowed = (core.cr0 & kCr0PE) && !(core.other_flags & kVM) && (core.cr4 & kCr4OSXSAVE) && (core.xcr0 & components) == components;
  if (!allowed) [[unlikely]] return core.raise(kUD);
  return device_available(core);
}

}  // namespace

bool enter_sse(Core& core) {
  if ((core.cr0 & kCr0EM) || !(core.cr4 & kCr4OSFXSR)) [[unlikely]] return core.raise(kUD);
  return device_available(core);
}

bool enter_vex(Core& core) { return enter_extended(core, kAvxState); }

bool enter_wide(Core& core) {
  if (!enter_extended(core, kWideState)) return false;
  core.wide_vectors = 1;
  return true;
}

bool check_x87_pending(Core& core) {
  if (!(image::fsw(core) & image::kFswErrorSummary)) [[likely]] return true;
  if (core.cr0 & kCr0NE) return core.raise(kMFault);
  if (core.vm && core.vm->chips) core.vm->chips->gsi(kFpuErrorIrq).pulse();
  return true;
}

bool enter_x87_no_wait(Core& core) {
  if (core.cr0 & (kCr0EM | kCr0TS)) [[unlikely]] return core.raise(kNM);
  return true;
}

bool enter_x87(Core& core) { return enter_x87_no_wait(core) && check_x87_pending(core); }

bool enter_mmx(Core& core) {
  if (core.cr0 & kCr0EM) [[unlikely]] return core.raise(kUD);
  return device_available(core) && check_x87_pending(core);
}

bool enter_gate(Core& core, Gate gate) {
  switch (gate) {
    case Gate::Sse: return enter_sse(core);
    case Gate::Vex: return enter_vex(core);
    case Gate::Wide: return enter_wide(core);
    case Gate::Mmx: return enter_mmx(core);
    case Gate::SseMmx: return enter_sse(core) && check_x87_pending(core);
    case Gate::X87: return enter_x87(core);
  }
  return true;
}

void become_mmx(Core& core) {
  if (image::top(core) != 0) image::set_top(core, 0);
  image::bytes(core)[image::kFtw] = 0xff;
}

}  // namespace atl::soft
