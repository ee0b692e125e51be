#include "cpu/soft/direct/stub.h"

#include <cstddef>

#include "cpu/soft/direct/exchange.h"

#pragma GCC diagnostic ignored "-Winvalid-offsetof"

namespace atl::soft::direct {
namespace {

extern "C" {
[[gnu::visibility("hidden")]] extern const u8 atl_direct_begin[], atl_direct_handler[], atl_direct_resume[], atl_direct_end[];
}

constexpr u64 at(u64 offset) { return kExchange + offset; }

/// Never called where it lies. All addresses are of kExchange and below 2 GiB. RDX: the signal's ucontext, or 0.
[[gnu::naked, gnu::used]] void stub() {
  asm volatile(
      ".globl atl_direct_begin, atl_direct_handler, atl_direct_resume, atl_direct_end\n"
      ".hidden atl_direct_begin, atl_direct_handler, atl_direct_resume, atl_direct_end\n"
      "atl_direct_begin:\n"
      "xorl %%edx, %%edx\n"
      "1:\n"
      "movl %[stack_end], %%esp\n"
      "jmp 3f\n"
      "atl_direct_handler:\n"
      "pushq $2\n"  // the kernel leaves AC and NT as they are
      "popfq\n"
      "rdfsbase %%rax\n"
      "movq %%rax, %c[exit_fs_base]\n"
      "rdgsbase %%rax\n"
      "movq %%rax, %c[exit_gs_base]\n"
      "movw %%ds, %c[exit_ds]\n"
      "movw %%es, %c[exit_es]\n"
      "movw %%fs, %c[exit_fs]\n"
      "movw %%gs, %c[exit_gs]\n"
      "3:\n"
      "movl %[hand_over], %%eax\n"
      "syscall\n"
      "atl_direct_resume:\n"
      "cmpq %[go], %%rax\n"
      "jne 9f\n"
      "movl %[orders], %%ebp\n"
      "movl %c[order_count], %%ebx\n"
      "4:\n"
      "testl %%ebx, %%ebx\n"
      "je 5f\n"
      "movq 0(%%rbp), %%rax\n"
      "movq 8(%%rbp), %%rdi\n"
      "movq 16(%%rbp), %%rsi\n"
      "movq 24(%%rbp), %%rdx\n"
      "movq 32(%%rbp), %%r10\n"
      "movq 40(%%rbp), %%r8\n"
      "movq 48(%%rbp), %%r9\n"
      "syscall\n"
      "xorl %%edx, %%edx\n"
      "cmpq $-4096, %%rax\n"
      "ja 1b\n"
      "addq $56, %%rbp\n"
      "decl %%ebx\n"
      "jmp 4b\n"
      "5:\n"
      "xorl %%eax, %%eax\n"
      "movw %%ax, %%ds\n"
      "movw %%ax, %%es\n"
      "movw %%ax, %%fs\n"
      "movw %%ax, %%gs\n"
      "movl %c[xsave_mask], %%eax\n"
      "xorl %%edx, %%edx\n"
      "xrstor64 %c[xsave]\n"
      "movq %c[fs_base], %%rax\n"
      "wrfsbase %%rax\n"
      "movq %c[gs_base], %%rax\n"
      "wrgsbase %%rax\n"
      "movl %[exchange], %%esp\n"
      "popq %%rax\n"
      "popq %%rcx\n"
      "popq %%rdx\n"
      "popq %%rbx\n"
      "addq $8, %%rsp\n"
      "popq %%rbp\n"
      "popq %%rsi\n"
      "popq %%rdi\n"
      "popq %%r8\n"
      "popq %%r9\n"
      "popq %%r10\n"
      "popq %%r11\n"
      "popq %%r12\n"
      "popq %%r13\n"
      "popq %%r14\n"
      "popq %%r15\n"
      "iretq\n"
      "9:\n"
      "hlt\n"  // the VMM is gone
      "jmp 9b\n"
      "atl_direct_end:\n" ::[stack_end] "i"(kReservedEnd),
      [hand_over] "i"(kHandOver), [go] "i"(kGo), [exchange] "i"(kExchange), [orders] "i"(at(offsetof(Exchange, orders))),
      [order_count] "i"(at(offsetof(Exchange, order_count))), [xsave_mask] "i"(at(offsetof(Exchange, xsave_mask))),
      [xsave] "i"(at(offsetof(Exchange, xsave))), [fs_base] "i"(at(offsetof(Exchange, fs_base))),
      [gs_base] "i"(at(offsetof(Exchange, gs_base))), [exit_fs_base] "i"(at(offsetof(Exchange, exit_fs_base))),
      [exit_gs_base] "i"(at(offsetof(Exchange, exit_gs_base))), [exit_ds] "i"(at(offsetof(Exchange, exit_ds))),
      [exit_es] "i"(at(offsetof(Exchange, exit_es))), [exit_fs] "i"(at(offsetof(Exchange, exit_fs))),
      [exit_gs] "i"(at(offsetof(Exchange, exit_gs))));
}
static_assert(offsetof(Exchange, gpr) == 0 && offsetof(Exchange, rip) == 128 && sizeof(Order) == 56);

}  // namespace

std::span<const u8> stub_code() { return {atl_direct_begin, atl_direct_end}; }
u64 stub_entry() { return 0; }
u64 stub_handler() { return static_cast<u64>(atl_direct_handler - atl_direct_begin); }
u64 stub_resume() { return static_cast<u64>(atl_direct_resume - atl_direct_begin); }

}  // namespace atl::soft::direct
