#include "cpu/soft/differential/soft_runner.h"

#include <algorithm>
#include <cstring>

#include "cpu/soft/mmu/access.h"
#include "cpu/soft/native/supported.h"
#include "cpu/soft/system/debug.h"

namespace atl::soft::differential {
namespace {

// Guest physical addresses of the kernel's tables, below the pages of the case.
constexpr u64 kPml4 = 0x100000, kUserPdpt = 0x101000, kUserPd = 0x102000, kWindowTable = 0x103000, kCodeTable = 0x104000,
              kKernelPdpt = 0x105000, kKernelPd = 0x106000, kGdt = 0x107000, kIdt = 0x108000, kTss = 0x109000, kStackTop = 0x10c000;
constexpr u64 kKernelHalf = 0xffff800000000000;
constexpr u64 kHandlers = kKernelHalf + 0x110000;  // 16 bytes apart; where delivery goes: each ends the run
constexpr u16 kEndPort = 0x80;
// Neighbours in the address space lie apart in memory, so that accesses across pages need two translations.
constexpr u64 kWindowFrames[kWindowPages] = {0x801000, 0x800000, 0x803000};
constexpr u64 kCodeFrames[kCodePages] = {0xa00000, 0xb05000};
constexpr u64 kPresent = 1, kWrite = 2, kUser = 4, kLarge = 0x80, kNoExecute = u64{1} << 63;
constexpr unsigned kMostSteps = 1 << 16;
constexpr u16 kKernelCode = 0x08, kKernelData = 0x10, kTssSelector = 0x38, kUserData = 0x2b, kUserCode64 = 0x33, kUserCode32 = 0x23;

}  // namespace

/// Ends a run from inside the guest: OUT in an exception's handler.
class SoftRunner::EndOfRun final : public memory::BusDevice {
 public:
  explicit EndOfRun(Core& core) : core_(core) {}
  u64 bus_read(u64, unsigned) override { return 0; }
  void bus_write(u64, u64, unsigned) override { request_attention(core_, kAttendKick); }

 private:
  Core& core_;
};

SoftRunner::SoftRunner(Engine engine)
    : machine_({.translation = engine == Engine::Translator ? cpu::Translation::Always : cpu::Translation::Off}) {
  end_of_run_ = std::make_unique<EndOfRun>(machine_.core());
  MUST(machine_.ports().add({.name = "end of run", .base = kEndPort, .size = 1, .device = end_of_run_.get()}));  // nothing else is there
  map_user_pages(false);
  map_kernel();
  make_gates();
  Core& c = machine_.core();
  c.cr3 = kPml4;
  c.cr0 |= kCr0AM;
  c.cr4 |= kCr4FSGSBASE | kCr4UMIP;
  if (host_has_avx512()) c.xcr0 |= 0xe0;
  c.gdtr = {.base = kKernelHalf + kGdt, .limit = 0xff};
  c.idtr = {.base = kKernelHalf + kIdt, .limit = 0xfff};
  c.tr = {.selector = kTssSelector, .attributes = 0x8b, .limit = 0x67, .base = kKernelHalf + kTss};
  flush_tlb(c, false);
  std::vector<u8> traps(kCodeBytes, 0xcc);
  write_code(kCodePage, traps);
}

SoftRunner::~SoftRunner() = default;

/// Also clears the accessed and dirty bits.
void SoftRunner::map_user_pages(bool writable_code) {
  machine_.poke<u64>(kPml4, kUserPdpt | kPresent | kWrite | kUser);
  machine_.poke<u64>(kUserPdpt, kUserPd | kPresent | kWrite | kUser);
  machine_.poke<u64>(kUserPd + (kWindow >> 21) * 8, kWindowTable | kPresent | kWrite | kUser);
  machine_.poke<u64>(kUserPd + (kCodePage >> 21) * 8, kCodeTable | kPresent | kWrite | kUser);
  for (u64 i = 0; i < kWindowPages; ++i) {
    u64 rights = kPresent | kUser | kNoExecute | (i < kWritablePages ? kWrite : 0);
    machine_.poke<u64>(kWindowTable + i * 8, kWindowFrames[i] | rights);
  }
  for (u64 i = 0; i < kCodePages; ++i)
    machine_.poke<u64>(kCodeTable + i * 8, kCodeFrames[i] | kPresent | kUser | (writable_code ? kWrite : 0));
}

void SoftRunner::map_kernel() {
  machine_.poke<u64>(kPml4 + 256 * 8, kKernelPdpt | kPresent | kWrite);
  machine_.poke<u64>(kKernelPdpt, kKernelPd | kPresent | kWrite);
  machine_.poke<u64>(kKernelPd, kPresent | kWrite | kLarge);
  machine_.poke<u64>(kTss + 4, kKernelHalf + kStackTop);  // RSP0
  machine_.poke<u64>(kGdt + kKernelCode, 0x00af9b000000ffff);
  machine_.poke<u64>(kGdt + kKernelData, 0x00cf93000000ffff);
  machine_.poke<u64>(kGdt + (kUserCode32 & ~7u), 0x00cffb000000ffff);
  machine_.poke<u64>(kGdt + (kUserData & ~7u), 0x00cff3000000ffff);
  machine_.poke<u64>(kGdt + (kUserCode64 & ~7u), 0x00affb000000ffff);
}

void SoftRunner::make_gates() {
  constexpr u64 kInterruptGate = 0x8e00, kFromUser = 0x6000;
  for (u64 vector = 0; vector < 256; ++vector) {
    u64 handler = kHandlers + vector * 16;
    u64 gate = vector == kBP ? kInterruptGate | kFromUser : kInterruptGate;
    machine_.poke<u64>(kIdt + vector * 16, (handler & 0xffff) | u64{kKernelCode} << 16 | gate << 32 | (handler >> 16 & 0xffff) << 48);
    machine_.poke<u64>(kIdt + vector * 16 + 8, handler >> 32);
    machine_.poke<u32>(handler - kKernelHalf, 0xfeeb0000 | kEndPort << 8 | 0xe6);  // out 0x80, al; jmp $
  }
}

void SoftRunner::set_segments(Mode mode) {
  Core& c = machine_.core();
  constexpr u16 kData = 0xc0f3, kCode32 = 0xc0fb, kCode64 = 0xa0fb;
  for (SegReg reg : {kDs, kEs, kSs}) c.seg[reg] = {.selector = kUserData, .attributes = kData, .limit = 0xffffffff};
  for (SegReg reg : {kFs, kGs}) c.seg[reg] = {.selector = 0, .attributes = kData, .limit = 0xffffffff};
  c.seg[kGs].base = kWindow;
  c.seg[kCs] = {.selector = mode == Mode::Long ? kUserCode64 : kUserCode32, .attributes = mode == Mode::Long ? kCode64 : kCode32,
                .limit = 0xffffffff};
  update_mode(c);
}

void SoftRunner::write_code(u64 at, std::span<const u8> bytes) {
  while (!bytes.empty()) {
    u64 part = std::min<u64>(bytes.size(), kPage - at % kPage);
    u64 physical = kCodeFrames[(at - kCodePage) / kPage] + at % kPage;
    machine_.load(physical, bytes.first(part));
    machine_.vm().code.wrote(physical, part);
    at += part;
    bytes = bytes.subspan(part);
  }
}

void SoftRunner::enter(const Case& c) {
  Core& core = machine_.core();
  set_segments(c.mode);
  core.gpr = c.before.gpr;
  core.rip = c.before.rip;
  core.set_rflags(c.before.rflags);
  std::copy(c.before.xsave.begin(), c.before.xsave.end(), core.ext.xsave.begin());
  core.wide_vectors = host_has_avx512();
  core.cr2 = 0;
  core.fault_pending = false;
  core.interrupt_shadow = false;
  core.attention.store(0);
  update_mode(core);
}

/// The frame that delivery pushed: error code if the vector has one, RIP, CS, RFLAGS, RSP, SS.
void SoftRunner::read_fault(Outcome& out) {
  Core& core = machine_.core();
  out.vector = static_cast<unsigned>((core.rip - kHandlers) / 16);
  bool end_of_sequence = out.vector == kBP;
  GuestAddr at = core.gpr[kRsp] - kKernelHalf;
  bool has_error = at == kStackTop - 48;
  if (has_error) out.error = machine_.peek<u32>(at);
  at += has_error ? 8 : 0;
  out.registers.rip = machine_.peek<u64>(at);
  out.registers.rflags = machine_.peek<u64>(at + 16);
  out.registers.gpr[kRsp] = machine_.peek<u64>(at + 24);
  if (out.vector == kPFault) out.address = core.cr2;
  if (end_of_sequence) --out.registers.rip, out.vector = kNoFault;  // of the INT3
}

void SoftRunner::start(const Case& c, std::span<const u8> memory) {
  if (c.cold || c.self_modifying || writable_code_) {
    writable_code_ = c.self_modifying;
    map_user_pages(writable_code_);
    flush_tlb(machine_.core(), false);
  }
  write_code(c.before.rip, c.bytes);
  again(c, memory);
}

void SoftRunner::again(const Case& c, std::span<const u8> memory) {
  for (u64 i = 0; i < kWindowPages; ++i) std::memcpy(machine_.ram() + kWindowFrames[i], &memory[i * kPage], kPage);
  enter(c);
  alive_ = true;
}

bool SoftRunner::ended() { return !alive_ || machine_.core().cpl == 0; }

bool SoftRunner::resume() {
  alive_ = soft::run(machine_.core()) != cpu::RunExit::Reset;
  return ended();
}

bool SoftRunner::step() {
  alive_ = step_one(machine_.core());
  return ended();
}

void SoftRunner::interrupt() { request_attention(machine_.core(), kAttendKick); }

u64 SoftRunner::instructions() { return machine_.core().stats.instructions; }

void SoftRunner::finish(const Case& c) {
  std::vector<u8> traps(c.bytes.size(), 0xcc);
  write_code(c.before.rip, traps);
}

const Core& SoftRunner::core() { return machine_.core(); }

void SoftRunner::snapshot(Outcome& out) {
  Core& core = machine_.core();
  out.vector = kNoFault, out.error = 0, out.address = 0;
  out.registers.gpr = core.gpr;
  out.registers.rip = core.rip;
  out.registers.rflags = core.rflags();
  std::copy_n(core.ext.xsave.begin(), out.registers.xsave.size(), out.registers.xsave.begin());
  if (!alive_) out.vector = kDFault;
  else if (core.cpl == 0) read_fault(out);
  for (u64 i = 0; i < kWindowPages; ++i) std::memcpy(&out.memory[i * kPage], machine_.ram() + kWindowFrames[i], kPage);
}

void SoftRunner::run(const Case& c, std::span<const u8> memory, Outcome& out) {
  start(c, memory);
  if (c.sequence) {
    while (!resume()) {}
  } else {
    step();
    // Repeated string instructions come back now and then with RIP unmoved.
    for (unsigned i = 0; i < kMostSteps && !ended() && core().rip == c.before.rip && c.repeats; ++i) step();
  }
  snapshot(out);
  finish(c);
}

}  // namespace atl::soft::differential
