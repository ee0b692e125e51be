// What a helper and the VMM share: registers, orders and the signal stack of the helper, at a fixed place of its address space.
//
// The guest's code in the helper can write all of it. What the VMM reads here is checked as the guest's own registers would be.
#pragma once

#include <array>

#include "base/types.h"

namespace atl::soft::direct {

/// The only pages of a helper that are not the guest's.
inline constexpr u64 kStub = 0x10000, kStubBytes = 0x1000;
inline constexpr u64 kExchange = kStub + kStubBytes, kExchangeBytes = 0x14000;
inline constexpr u64 kReservedEnd = kExchange + kExchangeBytes;
inline constexpr u64 kUserEnd = 0x7ffffffff000;  // of a process

inline constexpr u64 kHandOver = 34;  // SYS_pause: the system call by which the helper stops
inline constexpr u64 kGo = 1;         // what it returns: perform the orders, load the registers, go on

/// A system call for the stub to make, which the VMM lets pass.
struct Order {
  u64 number = 0;
  std::array<u64, 6> arguments{};
  bool operator==(const Order&) const = default;
};

struct Exchange {
  // What the helper starts from. Registers in the order of their numbers; RSP is in `rsp`.
  std::array<u64, 16> gpr{};
  u64 rip = 0, cs = 0, rflags = 0, rsp = 0, ss = 0;  // popped by IRETQ
  u64 fs_base = 0, gs_base = 0;
  u64 xsave_mask = 0;
  u64 order_count = 0;
  // What it leaves beside the signal frame.
  u64 exit_fs_base = 0, exit_gs_base = 0;
  u16 exit_ds = 0, exit_es = 0, exit_fs = 0, exit_gs = 0;
  u64 padding[3] = {};

  static constexpr unsigned kOrders = 64;
  std::array<Order, kOrders> orders{};
  alignas(4096) std::array<u8, 0x3000> xsave{};
  std::array<u8, 0x10000> stack{};
};
static_assert(sizeof(Exchange) == kExchangeBytes);

/// The kernel's signal frame up to what is used of it: `ucontext` and `siginfo` of the kernel's ABI.
struct SignalFrame {
  u64 flags, link, stack[3];
  u64 r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
  u64 selectors, error, trap, old_mask, cr2;
  u64 fpstate;
  u64 reserved[8], mask;
  u32 signal, signal_errno, code, signal_padding;
  u64 call_address;
  u32 call_number, architecture;
};
static_assert(sizeof(SignalFrame) == 304 + 32);

}  // namespace atl::soft::direct
