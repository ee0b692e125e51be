#include "cpu/soft/direct/registers.h"

#include <cpuid.h>
#include <signal.h>

#include <cerrno>
#include <cstring>

#include "cpu/soft/direct/confine.h"
#include "cpu/soft/direct/stub.h"
#include "cpu/soft/exec/address.h"
#include "cpu/soft/native/image.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/segments.h"

namespace atl::soft::direct {
namespace {

enum Component : u64 { kX87 = 1, kSse = 2, kAvx = 4, kOpmask = 0x20, kZmmHigh = 0x40, kZmm16 = 0x80, kPkru = 0x200 };
constexpr u64 kUserFlags = kArithmeticFlags | kTF | kDF | kNT | kAC | kID;

u64 host_xcr0() {
  u32 a = 0, d = 0;
  asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return a | u64{d} << 32;
}

unsigned component_offset(unsigned number) {
  u32 a = 0, b = 0, c = 0, d = 0;
  __cpuid_count(0xd, number, a, b, c, d);
  return b;
}

HostState detect() {
  HostState host;
  u32 a = 0, b = 0, c = 0, d = 0;
  __cpuid(1, a, b, c, d);
  if (!(c & 1u << 27)) return host;  // OSXSAVE
  host.mask = host_xcr0() & ~u64{kPkru};
  if (host.mask & kAvx) host.avx = component_offset(2);
  if (host.mask & kOpmask) host.opmask = component_offset(5);
  if (host.mask & kZmmHigh) host.zmm_high = component_offset(6);
  if (host.mask & kZmm16) host.zmm16 = component_offset(7);
  __cpuid_count(0xd, 0, a, b, c, d);
  host.end = b;
  return host;
}

bool null_data(const Core& core) {
  return core.seg[kDs].selector == 0 && core.seg[kEs].selector == 0 && core.seg[kFs].selector == 0 && core.seg[kGs].selector == 0;
}

/// One component behind the header: where the host has it and where the image has it.
struct Part {
  u64 bit;
  unsigned host, image, size;
};
std::array<Part, 4> parts() {
  const HostState& host = HostState::get();
  return {{{kAvx, host.avx, image::kYmmHigh, 256}, {kOpmask, host.opmask, image::kOpmask, 64},
           {kZmmHigh, host.zmm_high, image::kZmmHigh, 512}, {kZmm16, host.zmm16, image::kZmm16, 1024}}};
}

u64 canonical(u64 address) { return static_cast<u64>(static_cast<i64>(address << 16) >> 16); }

void import_extended(Core& core, const u8* area) {
  u8* to = image::bytes(core);
  const u64 present = load_le<u64>(area + image::kHeader) & HostState::get().mask;
  if (present & kX87) {
    std::memcpy(to, area, image::kMxcsr);
    std::memcpy(to + image::kSt, area + image::kSt, 128);
    to[image::kFtw + 1] = 0;
    image::update_error_summary(core);
  } else {
    image::init_x87(core);
    std::memset(to + image::kSt, 0, 128);
  }
  image::set_mxcsr(core, load_le<u32>(area + image::kMxcsr) & image::kMxcsrValid);
  if (present & kSse) std::memcpy(to + image::kXmm, area + image::kXmm, 256);
  else std::memset(to + image::kXmm, 0, 256);
  for (const Part& part : parts()) {
    const bool had = part.bit == kAvx || core.wide_vectors;
    if (present & part.bit) std::memcpy(to + part.image, area + part.host, part.size);
    else if (had) std::memset(to + part.image, 0, part.size);
  }
  core.wide_vectors = (present & (kOpmask | kZmmHigh | kZmm16)) != 0;
}

/// The signal frame's extended state lies in the exchange, or is forged.
const u8* extended_state(const Exchange& exchange, const SignalFrame& frame) {
  const u64 at = frame.fpstate - kExchange;
  const bool inside = frame.fpstate % 64 == 0 && at < kExchangeBytes && kExchangeBytes - at >= HostState::get().end;
  return inside ? reinterpret_cast<const u8*>(&exchange) + at : nullptr;
}

void import_selector(Core& core, SegReg segment, u16 selector) {
  if (selector != 0) load_segment(core, segment, selector);
  core.fault_pending = false;  // the host's table had what the guest's has not
}

}  // namespace

const HostState& HostState::get() {
  static const HostState host = detect();
  return host;
}

bool fits(const Core& core) {
  constexpr u64 kOdd = kTF | kNT | kRF | kVM | kAC | kIOPL;
  if (core.cpl != 3 || core.code_size != CodeSize::k64 || (core.other_flags & kOdd) || !(core.other_flags & kIF)) return false;
  if (core.seg[kCs].selector != 0x33 || core.seg[kSs].selector != 0x2b || !null_data(core)) return false;
  if ((core.cr0 & (kCr0EM | kCr0TS)) || core.xcr0 != HostState::get().mask || !(core.cr4 & kCr4OSXSAVE)) return false;
  if (!(core.cr4 & kCr4FSGSBASE)) return false;
  if (core.interrupt_shadow || core.smm || (core.dr7 & 0xff) || !core.debugger.points.empty() || core.debugger.single_step) return false;
  return core.rip < kUserEnd && (core.rip < kStub || core.rip >= kReservedEnd);
}

void export_registers(const Core& core, Exchange& out) {
  out.gpr = core.gpr;
  out.rip = core.rip;
  out.cs = core.seg[kCs].selector;
  out.ss = core.seg[kSs].selector;
  out.rflags = core.rflags() | kIF;
  out.rsp = core.gpr[kRsp];
  out.fs_base = core.seg[kFs].base;
  out.gs_base = core.seg[kGs].base;
  out.xsave_mask = HostState::get().mask;
  u8* area = out.xsave.data();
  const u8* from = image::bytes(core);
  u64 present = kX87 | kSse | (HostState::get().mask & kAvx);
  if (core.wide_vectors) present |= HostState::get().mask;
  std::memcpy(area, from, image::kLegacyEnd);
  std::memset(area + image::kHeader, 0, 64);
  store_le<u64>(area + image::kHeader, present);
  for (const Part& part : parts())
    if (present & part.bit) std::memcpy(area + part.host, from + part.image, part.size);
}

bool find_frame(const Exchange& exchange, u64 context, SignalFrame& out) {
  for (unsigned kicks = 0; kicks < 8; ++kicks) {
    const u64 at = context - kExchange;
    if (context % 8 || at >= kExchangeBytes || kExchangeBytes - at < sizeof out) return false;
    std::memcpy(&out, reinterpret_cast<const u8*>(&exchange) + at, sizeof out);
    const u64 place = out.rip - kStub;
    if (out.signal != kKickSignal || place >= kStubBytes) return true;
    const bool hand_over_interrupted = place == stub_resume() && out.rax == static_cast<u64>(-EINTR);
    if (place >= stub_resume() && !hand_over_interrupted) return false;
    context = out.rdx;
  }
  return false;
}

void import_registers(Core& core, const Exchange& exchange, const SignalFrame& frame) {
  core.gpr = {frame.rax, frame.rcx, frame.rdx, frame.rbx, frame.rsp, frame.rbp, frame.rsi, frame.rdi,
              frame.r8,  frame.r9,  frame.r10, frame.r11, frame.r12, frame.r13, frame.r14, frame.r15};
  core.rip = canonical(frame.rip);
  set_flags(core, (core.rflags() & ~kUserFlags) | (frame.rflags & kUserFlags));
  if (const u8* area = extended_state(exchange, frame)) import_extended(core, area);
  if (exchange.exit_ds | exchange.exit_es | exchange.exit_fs | exchange.exit_gs) [[unlikely]] {
    import_selector(core, kDs, exchange.exit_ds);
    import_selector(core, kEs, exchange.exit_es);
    import_selector(core, kFs, exchange.exit_fs);
    import_selector(core, kGs, exchange.exit_gs);
  }
  core.seg[kFs].base = canonical(exchange.exit_fs_base);
  core.seg[kGs].base = canonical(exchange.exit_gs_base);
}

}  // namespace atl::soft::direct
