/* Debug exceptions (SDM vol. 3, chapter 18): single steps and what delays them, general detection, INT1, breakpoints after MOV SS,
   DR4 and DR5. */
#include "guest.h"

enum { kSlots = 8, kBS = 1 << 14, kBD = 1 << 13 };
#define kDr6Fixed 0xffff0ff0ull

static volatile u64 seen_rip[kSlots], seen_dr6[kSlots];
static volatile u32 seen;
static volatile u64 last_bp;

static void on_debug(struct frame* frame) {
  if (seen < kSlots) seen_rip[seen] = frame->rip, seen_dr6[seen] = read_dr6();
  if (read_dr6() & 4) frame->rflags |= 1 << 16; /* RF: go on at the instruction breakpoint in DR2 */
  if (++seen >= kSlots) frame->rflags &= ~0x100ull, write_dr7(0x400);
}
static void on_bp(struct frame* frame) { last_bp = frame->rip; }

static void fresh(void) { seen = 0, write_dr6(0); }

/* Where the n-th #DB must have come from, and the bits of DR6 that it must have had. */
static void expect_at(const char* what, u32 n, u64 rip, u64 dr6) {
  expect(what, n < seen, 1);
  expect("  RIP", seen_rip[n], rip);
  expect("  DR6", seen_dr6[n], kDr6Fixed | dr6);
}

#define SET_TF "pushf; pop %%rax; or $0x100, %%rax; push %%rax; "
#define CLEAR_TF "and $~0x100, %%rax; "
#define RUN(text) __asm__ volatile(text "lea 1b(%%rip), %0" : "=&r"(start) : : "rax", "rbx", "rcx", "rdx", "memory")

static void steps(void) {
  u64 start;
  fresh();
  RUN(SET_TF "popf; " CLEAR_TF "1: push %%rax; popf; ");
  expect("a step after each instruction, the first after the one behind POPF", seen, 3);
  expect_at("  first", 0, start, kBS);
  expect_at("  second", 1, start + 1, kBS);
  expect_at("  POPF that clears TF", 2, start + 2, kBS);

  fresh();
  RUN(SET_TF "popf; " CLEAR_TF "1: push %%rax; xor %%eax, %%eax; cpuid; mov $0x3fd, %%edx; in %%dx, %%al; popf; ");
  expect("steps over CPUID and IN", seen, 7);
  expect_at("  CPUID", 3, start + 5, kBS);
  expect_at("  IN", 5, start + 11, kBS);

  fresh();
  RUN("cli; " SET_TF "popf; sti; 1: and $~0x100, %%rax; push %%rax; popf; cli; ");
  expect("STI does not hold a step back", seen, 4);
  expect_at("  after STI", 0, start, kBS);
}

static void steps_and_mov_ss(void) {
  u64 start;
  fresh();
  RUN(SET_TF "mov %%ss, %%ecx; popf; mov %%ecx, %%ss; " CLEAR_TF "1: push %%rax; popf; ");
  expect("MOV SS takes no step", seen, 3);
  expect_at("  the next instruction does", 0, start, kBS);

  fresh();
  RUN(SET_TF "mov %%ss, %%ecx; popf; mov %%ecx, %%ss; .byte 0xf1; 1: .byte 0xf1; " CLEAR_TF "push %%rax; popf; ");
  expect("INT1 behind MOV SS", seen, 5);
  expect_at("  is no step", 0, start, 0);
  expect_at("  nor is the second", 1, start + 1, 0);
  expect_at("  but what follows", 2, start + 7, kBS);

  fresh();
  write_dr7(0x2400);
  RUN("xor %%ebx, %%ebx; " SET_TF "mov %%ss, %%ecx; popf; mov %%ecx, %%ss; 1: mov %%rbx, %%dr6; " CLEAR_TF "push %%rax; popf; ");
  expect("general detection behind MOV SS", seen, 5);
  expect_at("  is a fault", 0, start, kBD);
  expect_at("  the move is done then", 1, start + 3, kBS);
  expect("  and GD is clear", read_dr7(), 0x400);
}

static void step_over_hlt(void) {
  u64 start;
  count_vector(0x40, 1);
  apic_write(0xf0, 0x1ff);
  apic_write(0x3e0, 0xb);
  apic_write(0x320, 0x40);
  apic_write(0x380, 100000);
  fresh();
  RUN("cli; " SET_TF "popf; sti; 1: hlt; and $~0x100, %%rax; push %%rax; popf; ");
  expect("STI, HLT", seen, 5);
  expect_at("  after STI", 0, start, kBS);
  expect_at("  after HLT", 1, start + 1, kBS);
  while (!counts[0x40]) __asm__ volatile("sti; hlt; cli");
  __asm__ volatile("cli");
}

#define write_dr2(value) __asm__ volatile("mov %0, %%dr2" : : "r"((u64)(value)))
#define write_dr1(value) __asm__ volatile("mov %0, %%dr1" : : "r"((u64)(value)))

static volatile u64 watched;

static void breakpoints(void) {
  u64 start;
  fresh();
  __asm__ volatile("lea 1f(%%rip), %0; mov %0, %%dr2; mov %1, %%dr7; 1: nop" : "=&r"(start) : "r"(0x420ull));
  expect("one instruction breakpoint", seen, 1);
  expect_at("  of DR2", 0, start, 4);
  fresh();
  write_dr6(kBS | 2);
  __asm__ volatile("lea 1f(%%rip), %0; mov %0, %%dr2; 1: nop" : "=&r"(start));
  expect_at("BS stays as software left it, B1 goes", 0, start, kBS | 4);
  write_dr7(0x400);

  fresh();
  write_dr6(kBS);
  write_dr1(&watched);
  write_dr7(0x00d0040a);
  __asm__ volatile("mov $42, %%eax; mov %%rax, %1; 1: lea 1b(%%rip), %0" : "=&r"(start), "=m"(watched) : : "rax");
  expect("one write", seen, 1);
  expect_at("  BS stays", 0, start, kBS | 2);
  fresh();
  __asm__ volatile("mov $42, %%eax; mov %%rax, %1; 1: lea 1b(%%rip), %0" : "=&r"(start), "=m"(watched) : : "rax");
  expect_at("  and is not set", 0, start, 2);
  write_dr7(0x400);
  fresh();
  __asm__ volatile(".byte 0xf1; 1: lea 1b(%%rip), %0" : "=&r"(start));
  expect_at("INT1", 0, start, 0);
}

/* A data breakpoint that MOV SS meets is reported after the next instruction. */
static void breakpoints_at_mov_ss(void) {
  u64 start;
  watched = 0x10;
  write_dr1(&watched);
  write_dr7(0x00f0040a);
  fresh();
  __asm__ volatile("mov %1, %%ss; nop; 1: lea 1b(%%rip), %0" : "=&r"(start) : "m"(watched));
  expect("one breakpoint at MOV SS", seen, 1);
  expect_at("  after the next instruction", 0, start, 2);
  fresh();
  __asm__ volatile("mov %1, %%ss; .byte 0x2e, 0x2e, 0xf1; 1: lea 1b(%%rip), %0" : "=&r"(start) : "m"(watched));
  expect("MOV SS, INT1: one #DB", seen, 1);
  expect("  behind INT1", seen_rip[0], start);
  fresh();
  __asm__ volatile("mov %0, %%ss; int $1" : : "m"(watched));
  expect("MOV SS, INT 1: breakpoint and interrupt", seen, 2);
  fresh();
  last_bp = 0;
  __asm__ volatile("mov %1, %%ss; .byte 0x2e, 0x2e, 0x2e, 0xcc; 1: lea 1b(%%rip), %0" : "=&r"(start) : "m"(watched));
  expect("MOV SS, INT3: one #DB", seen, 1);
  expect("  and one #BP", last_bp, start);
  write_dr7(0x400);
}

static void read_dr4(u64 unused) {
  (void)unused;
  __asm__ volatile("mov %%db4, %%rax" : : : "rax");
}

static void aliases(void) {
  u64 value;
  write_cr4(read_cr4() & ~8ull);
  write_dr6(kDr6Fixed | kBS | 2);
  __asm__ volatile("mov %%db4, %0" : "=r"(value));
  expect("DR4 is DR6 without CR4.DE", value, kDr6Fixed | kBS | 2);
  write_cr4(read_cr4() | 8);
  expect("and undefined with it", catch_call(read_dr4, 0), kUD);
  write_dr6(0);
  expect("what DR6 holds always", read_dr6(), kDr6Fixed);
}

/* SYSCALL clears TF by the mask and takes no step; SYSRET that loads TF takes one after itself. The user code's first SYSCALL comes
   back with the flags of R8, its second one ends the test. */
extern const u8 tf_target[];
u64 tf_stack;
__asm__("tf_target: cmpl $0, seen; jne 1f; mov %r8, %r11; sysretq; 1: mov $0x10, %ecx; mov %ecx, %ss; mov tf_stack, %rsp; ret\n"
        "tf_enter: mov %rsp, tf_stack; mov $2, %r11d; mov $0x10000002f00, %rsp; mov $0x10000000000, %rcx; sysretq\n");
USER_CODE_BYTES(step_syscall, "pushf; pop %rax; or $0x100, %rax; mov %rax, %r8; push %rax; popf; syscall; syscall");
USER_CODE_BYTES(just_trap, "int $0x80");

static u64 stepped_cs;
static void on_user_step(struct frame* frame) {
  stepped_cs = frame->cs;
  seen++;
  frame->rflags &= ~0x100ull;
}

static void run_step_syscall(u64 unused) {
  (void)unused;
  __asm__ volatile("push %%rbx; push %%rbp; push %%r12; push %%r13; push %%r14; push %%r15; call tf_enter;"
                   "pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%rbp; pop %%rbx"
                   : : : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory");
}

static void system_calls(void) {
  RUN_USER(just_trap, 0, 0); /* maps the user pages */
  for (u32 i = 0; i < (u32)(step_syscall_end - step_syscall); i++) write_byte(USER_CODE + i, step_syscall[i]);
  wrmsr(0xc0000081, 0x18ull << 48 | 0x8ull << 32);
  wrmsr(0xc0000082, (u64)tf_target);
  wrmsr(0xc0000084, 0x4700);
  handle_vector(kDB, on_user_step);
  seen = 0;
  catch_call(run_step_syscall, 0);
  expect("one step at SYSCALL and SYSRET", seen, 1);
  expect("  in user mode", stepped_cs, 0x2b);
  handle_vector(kDB, on_debug);
}

u32 main(void) {
  handle_vector(kDB, on_debug);
  handle_vector(kBP, on_bp);
  write_dr7(0x400);
  steps();
  steps_and_mov_ss();
  step_over_hlt();
  breakpoints();
  breakpoints_at_mov_ss();
  aliases();
  write_cr0(read_cr0() & ~0x10000ull); /* WP: user code is written below */
  system_calls();
  return report();
}
