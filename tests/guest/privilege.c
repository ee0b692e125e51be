/* Rings, gates, stacks, system calls and segment checks in long mode (SDM vol. 3, chapters 5 and 6). */
#include "guest.h"

USER_CODE_BYTES(user_cli, "cli");
USER_CODE_BYTES(user_hlt, "hlt");
USER_CODE_BYTES(user_out, "mov $0x80, %edx; out %al, %dx; int $0x80");
USER_CODE_BYTES(user_int_81, "int $0x81");
USER_CODE_BYTES(user_ud, "ud2");
USER_CODE_BYTES(user_div, "xor %ecx, %ecx; mov $7, %eax; xor %edx, %edx; div %ecx");
USER_CODE_BYTES(user_rdmsr, "mov $0xc0000080, %ecx; rdmsr");
USER_CODE_BYTES(user_cr3, "mov %cr3, %rax");
USER_CODE_BYTES(user_popf, "push $0x3202; popf; pushf; pop %rax; int $0x80");
USER_CODE_BYTES(user_load_ds, "mov %edi, %ds; int $0x80");
USER_CODE_BYTES(user_align, "pushf; orl $0x40000, (%rsp); popf; mov 1(%rsp), %rax; int $0x80");
USER_CODE_BYTES(user_lretq, "push %rdi; push $1f - user_lretq; mov $0x10000000000, %rax; add %rax, (%rsp); lretq; 1: mov %cs, %eax; int $0x80");

static void faults(void) {
  expect("CLI at CPL 3", RUN_USER(user_cli, 0, 0), kGP);
  expect("  error code", last.error, 0);
  expect("  RIP", last.rip, USER_CODE);
  expect("  CS", last.cs, 0x2b);
  expect("  stack is TSS.RSP0's", last.ss, 0x23);
  expect("HLT at CPL 3", RUN_USER(user_hlt, 0, 0), kGP);
  expect("RDMSR at CPL 3", RUN_USER(user_rdmsr, 0, 0), kGP);
  expect("MOV from CR3 at CPL 3", RUN_USER(user_cr3, 0, 0), kGP);
  expect("INT through a gate with DPL 0", RUN_USER(user_int_81, 0, 0), kGP);
  expect("  error code", last.error, 0x81 << 3 | 2);
  expect("UD2", RUN_USER(user_ud, 0, 0), kUD);
  expect("division by zero", RUN_USER(user_div, 0, 0), kDE);
  expect("  RIP is the DIV", last.rip, USER_CODE + user_div_end - user_div - 2);
}

static void io_permission(void) {
  expect("OUT without permission", RUN_USER(user_out, 0, 0), kGP);
  tss.io_bitmap[0x80 / 8] &= (u8)~1;
  expect("OUT with the bitmap's permission", RUN_USER(user_out, 0, 0), 0x80);
  tss.io_bitmap[0x80 / 8] |= 1;
}

static void flags(void) {
  expect("POPF at CPL 3", RUN_USER(user_popf, 0, 0), 0x80);
  expect("  leaves IOPL and IF alone", last.rax & 0x3200, 0);
  write_cr0(read_cr0() | 1 << 18);
  expect("unaligned access with AC and CR0.AM", RUN_USER(user_align, 0, 0), kAC);
  write_cr0(read_cr0() & ~(1ull << 18));
  expect("the same without CR0.AM", RUN_USER(user_align, 0, 0), 0x80);
}

static void segments(void) {
  expect("load of user data", RUN_USER(user_load_ds, 0x23, 0), 0x80);
  expect("load of a null selector", RUN_USER(user_load_ds, 3, 0), 0x80);
  expect("load of kernel data", RUN_USER(user_load_ds, 0x13, 0), kGP);
  expect("  error code", last.error, 0x10);
  expect("load past the limit", RUN_USER(user_load_ds, 0xfff8, 0), kGP);
  expect("  error code", last.error, 0xfff8);
  gdt[9] |= 3ull << 45;
  expect("load of a segment that is not present", RUN_USER(user_load_ds, 0x4b, 0), kNP);
  expect("  error code", last.error, 0x48);
  gdt[9] &= ~(3ull << 45);
  expect("far return to the same ring", RUN_USER(user_lretq, 0x2b, 0), 0x80);
  expect("  CS", last.rax, 0x2b);
  expect("far return to ring 0", RUN_USER(user_lretq, 0x08, 0), kGP);
  expect("  error code", last.error, 0x08);
}

static void bad_selector_load(u64 selector) { __asm__ volatile("mov %0, %%ss" : : "r"((u32)selector)); }
static void far_jump_32(u64 unused) {
  (void)unused;
  __asm__ volatile(
      "push $0x40; lea 1f(%%rip), %%rax; push %%rax; lretq\n"
      ".code32\n1: mov %%esp, %%eax; push $0x08; push $2f; lret\n.code64\n2: add $0, %%rax" : : : "rax", "memory");
}

static void kernel_segments(void) {
  expect("SS with a code segment", catch_call(bad_selector_load, 0x08), kGP);
  expect("  error code", last.error, 0x08);
  expect("SS with user data at CPL 0", catch_call(bad_selector_load, 0x23), kGP);
  expect("SS that is not present", catch_call(bad_selector_load, 0x48), kSS);
  expect("  error code", last.error, 0x48);
  expect("compatibility mode and back", catch_call(far_jump_32, 0), kNone);
}

/* SYSCALL's target: reports through int $0x82 what it saw. */
__asm__(".text\n.globl on_syscall\non_syscall: mov %cs, %eax; mov %ss, %edx; pushf; pop %rbx; int $0x82");
extern const u8 on_syscall[];
USER_CODE_BYTES(user_syscall, "stc; mov %rsp, %rsi; syscall; nop");
__asm__(".text\n.globl on_syscall_return\non_syscall_return: sysretq");
extern const u8 on_syscall_return[];
USER_CODE_BYTES(user_syscall_return, "stc; std; syscall; mov %cs, %eax; mov %ss, %ebx; pushf; pop %rdx; int $0x80");

static void system_calls(void) {
  wrmsr(0xc0000081, 0x18ull << 48 | 0x08ull << 32); /* STAR */
  wrmsr(0xc0000084, 0x401);                         /* SFMASK: DF and CF */
  wrmsr(0xc0000082, (u64)on_syscall);
  expect("SYSCALL", RUN_USER(user_syscall, 0, 0), 0x82);
  expect("  CS", last.rax, 0x08);
  expect("  SS", last.rdx, 0x10);
  expect("  RCX is the next instruction", last.rcx, USER_CODE + user_syscall_end - user_syscall - 1);
  expect("  R11 has the flags", last.r11 & 1, 1);
  expect("  masked flags are clear", last.rbx & 0x401, 0);
  expect("  RSP is unchanged", last.rsp, last.rsi);
  wrmsr(0xc0000082, (u64)on_syscall_return);
  expect("SYSCALL and SYSRET", RUN_USER(user_syscall_return, 0, 0), 0x80);
  expect("  CS", last.rax, 0x2b);
  expect("  SS", last.rbx, 0x23);
  expect("  flags are restored", last.rdx & 0x401, 0x401);
  wrmsr(0xc0000080, rdmsr(0xc0000080) & ~1ull);
  expect("SYSCALL without EFER.SCE", RUN_USER(user_syscall, 0, 0), kUD);
  wrmsr(0xc0000080, rdmsr(0xc0000080) | 1);
}

static u8 ist_stack[4096] __attribute__((aligned(16)));

static void stacks(void) {
  tss.ist[2] = (u64)ist_stack + sizeof ist_stack;
  set_gate(kUD, 0, 3, 0);
  u64 frame_end = 0;
  expect("fault through an IST gate", RUN_USER(user_ud, 0, 0), kUD);
  __asm__ volatile("" : "=m"(frame_end));
  expect("  frame on the IST stack", *(u64*)(ist_stack + sizeof ist_stack - 40), USER_CODE);
  set_gate(kUD, 0, 0, 0);
}

static void write_unmapped_stack(u64 at) {
  __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp" : : "r"(at) : "rbx", "memory");
}
static u8 df_stack[4096] __attribute__((aligned(16)));

static void double_fault(void) {
  tss.ist[0] = (u64)df_stack + sizeof df_stack;
  set_gate(kDF, 0, 1, 0);
  expect("page fault whose frame cannot be pushed", catch_call(write_unmapped_stack, 0x19000000000), kDF);
  expect("  error code", last.error, 0);
  expect("push to a non-canonical stack", catch_call(write_unmapped_stack, 0x8000000000001000), kDF);
  set_gate(kDF, 0, 0, 0);
}

static void bad_control(u64 which) {
  if (which == 0) write_cr0(read_cr0() & ~1ull);           /* PE off with PG on */
  if (which == 1) write_cr4(read_cr4() & ~0x20ull);        /* PAE off in long mode */
  if (which == 2) wrmsr(0xc0000082, 0x8000000000000000);   /* non-canonical LSTAR */
  if (which == 3) wrmsr(0xc0000080, ~0ull);                /* reserved EFER bits */
  if (which == 4) rdmsr(0x12345678);                       /* no such MSR */
  if (which == 5) write_cr4(1ull << 63);
}

static void control_registers(void) {
  for (u64 which = 0; which < 6; which++) expect("a bad control register or MSR value", catch_call(bad_control, which), kGP);
}

u32 main(void) {
  faults();
  io_permission();
  flags();
  segments();
  kernel_segments();
  system_calls();
  stacks();
  double_fault();
  control_registers();
  return report();
}
