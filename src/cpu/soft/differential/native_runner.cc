#include "cpu/soft/differential/native_runner.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "base/check.h"
#include "base/endian.h"
#include "cpu/cpuid.h"
#include "cpu/soft/native/image.h"
#include "cpu/soft/native/supported.h"

namespace atl::soft::differential {
namespace {

/// What the entry code below reads, at fixed offsets.
struct Entry {
  alignas(64) std::array<u64, 16> gpr;
  struct Frame {
    u64 rip, cs, rflags, rsp, ss;
  } frame;
  u64 saved_rsp = 0;
  u64 components = 0;
  alignas(64) std::array<u8, 4096> xsave{};  // as the host has it
};
static_assert(offsetof(Entry, frame) == 128 && offsetof(Entry, saved_rsp) == 168 && offsetof(Entry, components) == 176);
static_assert(offsetof(Entry, xsave) == 192);

/// A component behind the XSAVE header: where the host has it, and where a case does.
struct Component {
  unsigned bit, host, ours, size;
};

const std::vector<Component>& components() {
  static const std::vector<Component> all = [] {
    cpu::CpuidTable host = cpu::host_cpuid();
    std::vector<Component> found = {{2, image::kYmmHigh, image::kYmmHigh, 256}};
    if (!host_has_avx512()) return found;
    constexpr Component kWide[] = {{5, 0, image::kOpmask, 64}, {6, 0, image::kZmmHigh, 512}, {7, 0, image::kZmm16, 1024}};
    for (Component c : kWide) {
      c.host = host.query(0xd, c.bit).ebx;
      found.push_back(c);
    }
    return found;
  }();
  return all;
}

constexpr u64 kUserCode64 = 0x33, kUserCode32 = 0x23, kUserData = 0x2b;

/// Where the handler finds the running case.
struct Running {
  Entry* entry = nullptr;
  Outcome* out = nullptr;
};
Running& running() {
  static Running current;
  return current;
}

}  // namespace
}  // namespace atl::soft::differential

// RDI: the Entry. IRETQ sets RIP, CS, RFLAGS and RSP at once; the handler resumes at atoll_differential_leave with RDI as it
// was here.
asm(R"(
  .intel_syntax noprefix
  .text
  .globl atoll_differential_enter
  .hidden atoll_differential_enter
atoll_differential_enter:
  push rbx
  push rbp
  push r12
  push r13
  push r14
  push r15
  mov [rdi + 168], rsp
  mov eax, [rdi + 176]
  xor edx, edx
  xrstor64 [rdi + 192]
  lea rsp, [rdi + 128]
  mov rax, [rdi]
  mov rcx, [rdi + 8]
  mov rdx, [rdi + 16]
  mov rbx, [rdi + 24]
  mov rbp, [rdi + 40]
  mov rsi, [rdi + 48]
  mov r8, [rdi + 64]
  mov r9, [rdi + 72]
  mov r10, [rdi + 80]
  mov r11, [rdi + 88]
  mov r12, [rdi + 96]
  mov r13, [rdi + 104]
  mov r14, [rdi + 112]
  mov r15, [rdi + 120]
  mov rdi, [rdi + 56]
  iretq
  .globl atoll_differential_leave
  .hidden atoll_differential_leave
atoll_differential_leave:
  mov rsp, [rdi + 168]
  vzeroupper
  pop r15
  pop r14
  pop r13
  pop r12
  pop rbp
  pop rbx
  ret
  .att_syntax
)");
extern "C" void atoll_differential_enter(void* entry);
extern "C" void atoll_differential_leave();

namespace atl::soft::differential {
namespace {

constexpr int kGprOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                               REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

/// The signal frame's XSAVE area, in standard format; absent components are in their initial state.
void copy_extended(const u8* frame, std::array<u8, 2688>& out) {
  u64 present = load_le<u64>(frame + 512);
  std::copy_n(frame, 512, out.data());
  if (!(present & 2)) std::fill_n(&out[160], 256, 0);
  for (const Component& c : components()) {
    if (present >> c.bit & 1) std::copy_n(frame + c.host, c.size, &out[c.ours]);
    else std::fill_n(&out[c.ours], c.size, 0);
  }
}

void set_extended(const std::array<u8, 2688>& in, Entry& entry) {
  std::copy_n(in.data(), image::kYmmHigh, entry.xsave.data());
  entry.components = 3;
  for (const Component& c : components()) {
    entry.components |= u64{1} << c.bit;
    std::copy_n(&in[c.ours], c.size, &entry.xsave[c.host]);
  }
  store_le<u64>(&entry.xsave[image::kHeader], entry.components);
}

void reset_extended(u8* frame) {
  store_le<u16>(frame, 0x37f);
  store_le<u16>(frame + 2, 0);
  frame[4] = 0;
  store_le<u32>(frame + 24, 0x1f80);
}

void copy_fault(const greg_t* regs, Outcome& out) {
  auto vector = static_cast<unsigned>(regs[REG_TRAPNO]);
  if (vector == cpu::kBP) {
    --out.registers.rip;  // of the INT3 that follows
    return;
  }
  out.vector = vector;
  out.error = static_cast<u32>(regs[REG_ERR]);
  out.address = vector == cpu::kPFault ? static_cast<u64>(regs[REG_CR2]) : 0;
}

void on_signal(int, siginfo_t*, void* context) {
  auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
  Outcome& out = *running().out;
  for (unsigned i = 0; i < 16; ++i) out.registers.gpr[i] = static_cast<u64>(machine.gregs[kGprOrder[i]]);
  out.registers.rip = static_cast<u64>(machine.gregs[REG_RIP]);
  out.registers.rflags = static_cast<u64>(machine.gregs[REG_EFL]);
  copy_extended(reinterpret_cast<u8*>(machine.fpregs), out.registers.xsave);
  copy_fault(machine.gregs, out);
  reset_extended(reinterpret_cast<u8*>(machine.fpregs));
  machine.gregs[REG_RIP] = reinterpret_cast<greg_t>(&atoll_differential_leave);
  machine.gregs[REG_RDI] = reinterpret_cast<greg_t>(running().entry);
  machine.gregs[REG_RSP] = static_cast<greg_t>(running().entry->saved_rsp);
  machine.gregs[REG_EFL] = 2;
  machine.gregs[REG_CSGSFS] = static_cast<greg_t>((static_cast<u64>(machine.gregs[REG_CSGSFS]) & 0x0000ffffffff0000) |
                                                  kUserCode64 | kUserData << 48);
}

/// A fixed place in this process, which must be free.
Status map_fixed(const Fd& fd, u64 at, u64 offset, u64 size, int protection) {
  void* got = ::mmap(reinterpret_cast<void*>(at), size, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, fd.get(), static_cast<off_t>(offset));
  if (got == MAP_FAILED) return os_error("map the case's memory");
  return {};
}

Result<Fd> make_memory(u64 size) {
  Fd fd(::memfd_create("differential", MFD_CLOEXEC));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) return os_error("create the case's memory");
  return fd;
}

}  // namespace

Result<std::unique_ptr<NativeRunner>> NativeRunner::create() {
  std::unique_ptr<NativeRunner> runner(new NativeRunner);
  TRY(runner->map());
  TRY(runner->install_handlers());
  // Compatibility mode wants usable data segments; 64-bit code does not look at them.
  asm volatile("mov %0, %%ds\n mov %0, %%es" : : "r"(static_cast<u32>(kUserData)));
  return runner;
}

NativeRunner::~NativeRunner() {
  ::munmap(reinterpret_cast<void*>(kWindow), kWindowBytes);
  ::munmap(reinterpret_cast<void*>(kCodePage), kCodeBytes);
}

Status NativeRunner::map() {
  window_fd_ = TRY(make_memory(kWindowBytes));
  code_fd_ = TRY(make_memory(kCodeBytes));
  window_ = TRY(Mapping::of_file(window_fd_, 0, kWindowBytes, PROT_READ | PROT_WRITE, MAP_SHARED));
  code_ = TRY(Mapping::of_file(code_fd_, 0, kCodeBytes, PROT_READ | PROT_WRITE, MAP_SHARED));
  TRY(map_fixed(window_fd_, kWindow, 0, kWritableBytes, PROT_READ | PROT_WRITE));
  TRY(map_fixed(window_fd_, kWindow + kWritableBytes, kWritableBytes, kWindowBytes - kWritableBytes, PROT_READ));
  TRY(map_fixed(code_fd_, kCodePage, 0, kCodeBytes, PROT_READ | PROT_EXEC));
  std::fill_n(code_.data(), kCodeBytes, 0xcc);
  std::fill_n(window_.data(), kWindowBytes, 1);
  for (u64 at = kWindow; at < kWindow + kWindowBytes; at += kPage) static_cast<void>(*reinterpret_cast<volatile u8*>(at));
  return {};
}

Status NativeRunner::install_handlers() {
  stack_ = TRY(Mapping::anonymous(256 * kKiB));
  stack_t stack{.ss_sp = stack_.data(), .ss_flags = 0, .ss_size = stack_.size()};
  if (::sigaltstack(&stack, nullptr) != 0) return os_error("set the signal stack");
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP})
    if (::sigaction(number, &action, nullptr) != 0) return os_error("install a signal handler");
  return {};
}

/// Pages of code are writable while a case that modifies itself runs.
void NativeRunner::protect_code(bool writable) {
  int protection = PROT_READ | PROT_EXEC | (writable ? PROT_WRITE : 0);
  CHECK(::mprotect(reinterpret_cast<void*>(kCodePage), kCodeBytes, protection) == 0);
}

void NativeRunner::run(const Case& c, std::span<const u8> memory, Outcome& out) {
  static Entry entry;
  entry.gpr = c.before.gpr;
  set_extended(c.before.xsave, entry);
  entry.frame = {.rip = c.before.rip, .cs = c.mode == Mode::Long ? kUserCode64 : kUserCode32, .rflags = c.before.rflags,
                 .rsp = c.before.gpr[cpu::kRsp], .ss = kUserData};
  out.vector = kNoFault, out.error = 0, out.address = 0;
  running() = {.entry = &entry, .out = &out};
  std::memcpy(window_.data(), memory.data(), kWindowBytes);
  u64 at = c.before.rip - kCodePage;
  std::copy(c.bytes.begin(), c.bytes.end(), code_.data() + at);
  if (c.self_modifying) protect_code(true);
  asm volatile("wrgsbase %0" : : "r"(kWindow));  // nothing else in this process uses GS
  atoll_differential_enter(&entry);
  if (c.self_modifying) protect_code(false);
  std::fill_n(code_.data() + at, c.bytes.size(), 0xcc);
  std::memcpy(out.memory.data(), window_.data(), kWindowBytes);
}

}  // namespace atl::soft::differential
