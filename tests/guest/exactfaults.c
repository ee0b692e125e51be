/* What an instruction leaves when it faults in the middle: RIP, registers and flags as before it, memory as far as string
   instructions have come. Each case runs until it is hot, and then faults. */
#include "guest.h"

#define AT 0x18000000000ull
enum { kWarm = 120, kFlags = 0x8d5, kRead = 4, kWrite = 6 };

/* Registers with known values, all arithmetic flags as RSI says; RDI = address. The instruction stands at `name_at`. */
#define CASE(name, instruction) \
  extern const u8 name##_at[]; \
  USER_CODE_BYTES(name, "mov $0x1111111122222222, %rax; mov $0x3333333344444444, %rbx; mov $5, %ecx; mov $0x6666666677777777, %rdx\n" \
                        "mov $0x10000002800, %rbp; mov $0x8888888899999999, %r8; movq %rax, %xmm1; movq %rdx, %xmm0\n" \
                        "push %rsi; popf\n" #name "_at: " instruction "\nint $0x80")

CASE(load, "mov 8(%rdi), %rax");
CASE(load_byte, "movb 8(%rdi), %ah");
CASE(load_extend, "movzwl 8(%rdi), %ebx");
CASE(store, "mov %rax, 8(%rdi)");
CASE(store_constant, "movb $7, 8(%rdi)");
CASE(add_to, "add %rax, 8(%rdi)");
CASE(adc_to, "adc %eax, 8(%rdi)");
CASE(add_from, "add 8(%rdi), %rax");
CASE(sbb_from, "sbb 8(%rdi), %rax");
CASE(compare, "cmp %rax, 8(%rdi)");
CASE(test_memory, "testl $1, 8(%rdi)");
CASE(increment, "incq 8(%rdi)");
CASE(negate, "negl 8(%rdi)");
CASE(invert, "notl 8(%rdi)");
CASE(shift, "shll $3, 8(%rdi)");
CASE(shift_cl, "rclq %cl, 8(%rdi)");
CASE(shift_double, "shld $3, %rax, 8(%rdi)");
CASE(bit_set, "btsl $3, 8(%rdi)");
CASE(bit_string, "btc %rcx, 8(%rdi)");
CASE(exchange, "xchg %rax, 8(%rdi)");
CASE(exchange_add, "xadd %rax, 8(%rdi)");
CASE(compare_exchange, "cmpxchg %rbx, 8(%rdi)");
CASE(locked_add, "lock addl $1, 8(%rdi)");
CASE(locked_pair, "lock cmpxchg16b 16(%rdi)");
CASE(multiply, "imul 8(%rdi), %rax");
CASE(multiply_wide, "mulq 8(%rdi)");
CASE(set_byte, "setc 8(%rdi)");
CASE(move_if, "cmovne 8(%rdi), %rax");
CASE(push_from, "pushq 8(%rdi)");
CASE(call_through, "call *8(%rdi)");
CASE(jump_through, "jmp *8(%rdi)");
CASE(sse_load, "movups 8(%rdi), %xmm0");
CASE(sse_store, "movups %xmm0, 8(%rdi)");
CASE(sse_aligned, "movaps 16(%rdi), %xmm0");
CASE(sse_operate, "paddd 16(%rdi), %xmm0");
CASE(sse_scalar, "cvtsi2sdl 8(%rdi), %xmm0");
CASE(sse_compare, "ucomiss 8(%rdi), %xmm0");
CASE(x87_load, "fldl 8(%rdi); fstp %st");

struct fault_case {
  const char* name;
  const u8 *begin, *at, *end;
  u64 error, offset; /* added to AT in CR2 */
  int warms;         /* can run without a fault */
};
#define ROW(name, error, offset, warms) {#name, name, name##_at, name##_end, error, offset, warms}
static const struct fault_case kCases[] = {
    ROW(load, kRead, 8, 1), ROW(load_byte, kRead, 8, 1), ROW(load_extend, kRead, 8, 1), ROW(store, kWrite, 8, 1),
    ROW(store_constant, kWrite, 8, 1), ROW(add_to, kWrite, 8, 1), ROW(adc_to, kWrite, 8, 1), ROW(add_from, kRead, 8, 1),
    ROW(sbb_from, kRead, 8, 1), ROW(compare, kRead, 8, 1), ROW(test_memory, kRead, 8, 1), ROW(increment, kWrite, 8, 1),
    ROW(negate, kWrite, 8, 1), ROW(invert, kWrite, 8, 1), ROW(shift, kWrite, 8, 1), ROW(shift_cl, kWrite, 8, 1),
    ROW(shift_double, kWrite, 8, 1), ROW(bit_set, kWrite, 8, 1), ROW(bit_string, kWrite, 8, 1), ROW(exchange, kWrite, 8, 1),
    ROW(exchange_add, kWrite, 8, 1), ROW(compare_exchange, kWrite, 8, 1), ROW(locked_add, kWrite, 8, 1),
    ROW(locked_pair, kWrite, 16, 1), ROW(multiply, kRead, 8, 1), ROW(multiply_wide, kRead, 8, 1), ROW(set_byte, kWrite, 8, 1),
    ROW(move_if, kRead, 8, 1), ROW(push_from, kRead, 8, 1), ROW(call_through, kRead, 8, 0), ROW(jump_through, kRead, 8, 0),
    ROW(sse_load, kRead, 8, 1), ROW(sse_store, kWrite, 8, 1), ROW(sse_aligned, kRead, 16, 1), ROW(sse_operate, kRead, 16, 1),
    ROW(sse_scalar, kRead, 8, 1), ROW(sse_compare, kRead, 8, 1), ROW(x87_load, kRead, 8, 1),
};

static u64* entry;
static u8 *page, *other;

static void set(u64 flags) {
  *entry = (u64)page | flags;
  invlpg(AT);
}

static u32 run_case(const struct fault_case* c, u64 rdi, u64 flags) { return run_user(c->begin, (size_t)(c->end - c->begin), rdi, flags | 2, 2); }

static u64 xmm0_low(void) {
  u64 value;
  __asm__ volatile("movq %%xmm0, %0" : "=r"(value));
  return value;
}

static void expect_unchanged(const struct fault_case* c, u64 flags) {
  expect(c->name, last.rip, USER_CODE + (u64)(c->at - c->begin));
  expect("  rax", last.rax, 0x1111111122222222);
  expect("  rbx", last.rbx, 0x3333333344444444);
  expect("  rcx", last.rcx, 5);
  expect("  rdx", last.rdx, 0x6666666677777777);
  expect("  rbp", last.rbp, 0x10000002800);
  expect("  rsp", last.rsp, USER_STACK + 4096 - 64);
  expect("  r8", last.r8, 0x8888888899999999);
  expect("  xmm0", xmm0_low(), 0x6666666677777777);
  expect("  flags", last.rflags & kFlags, flags);
}

static void run_table(void) {
  for (u32 i = 0; i < sizeof kCases / sizeof *kCases; i++) {
    const struct fault_case* c = &kCases[i];
    set(kP | kW | kU);
    if (c->warms)
      for (u32 n = 0; n < kWarm; n++) run_case(c, AT, n & 1 ? kFlags : 0);
    if (c->warms) expect(c->name, run_case(c, AT, 0), 0x80);
    for (u32 flags = 0; flags < 2; flags++) {
      set(0);
      expect(c->name, run_case(c, AT, flags * kFlags), kPF);
      expect("  error code", last.error, c->error);
      expect("  CR2", last_cr2, AT + c->offset);
      expect_unchanged(c, flags * kFlags);
      if (c->error != kWrite) continue;
      set(kP | kU);
      page[c->offset] = 0x77;
      expect(c->name, run_case(c, AT, flags * kFlags), kPF);
      expect("  error code of a read-only page", last.error, c->error | 1);
      expect_unchanged(c, flags * kFlags);
      expect("  memory", page[c->offset], 0x77);
    }
  }
}

/* Operands that begin in one page and end in the next, which is missing. */
static void across_pages(void) {
  static const struct fault_case* const kWide[] = {&kCases[0], &kCases[3], &kCases[5], &kCases[11], &kCases[31], &kCases[32]};
  set(kP | kW | kU);
  u64* next = map_page(AT + 4096, (u64)other, kP | kW | kU);
  for (u32 i = 0; i < sizeof kWide / sizeof *kWide; i++) {
    const struct fault_case* c = kWide[i];
    *next = (u64)other | kP | kW | kU, invlpg(AT + 4096);
    u64 at = AT + 4096 - 8 - 3;
    for (u32 n = 0; n < kWarm; n++) run_case(c, at, 0);
    expect(c->name, run_case(c, at, 0), 0x80);
    *next = 0, invlpg(AT + 4096);
    page[4093] = 0x5c, page[4094] = 0x5d;
    expect(c->name, run_case(c, at, kFlags), kPF);
    expect("  CR2 across pages", last_cr2, AT + 4096);
    expect_unchanged(c, kFlags);
    expect("  memory across pages", page[4093] | page[4094] << 8, 0x5d5c);
  }
}

USER_CODE_BYTES(stack_push, "mov %rsp, %rbx; mov %rdi, %rsp; mov $7, %eax; 1: push %rax; mov %rbx, %rsp; int $0x80");
USER_CODE_BYTES(stack_call, "mov %rsp, %rbx; mov %rdi, %rsp; mov $7, %eax; 1: call 2f; 2: mov %rbx, %rsp; int $0x80");
USER_CODE_BYTES(stack_return, "mov %rsp, %rbx; mov %rdi, %rsp; mov $7, %eax; 1: ret");
USER_CODE_BYTES(stack_pop, "mov %rsp, %rbx; mov %rdi, %rsp; mov $7, %eax; 1: pop %rax; mov %rbx, %rsp; int $0x80");
USER_CODE_BYTES(copy, "mov $0x10000001000, %rsi; mov $8, %ecx; cld; rep movsq; int $0x80");
USER_CODE_BYTES(fill, "mov $0x77, %eax; mov $100, %ecx; cld; rep stosb; int $0x80");
USER_CODE_BYTES(scan, "xor %eax, %eax; mov $100, %ecx; cld; repne scasb; int $0x80");

static void stacks(void) {
  set(kP | kW | kU);
  for (u32 n = 0; n < kWarm; n++) {
    RUN_USER(stack_push, AT + 64, 0);
  }
  for (u32 n = 0; n < kWarm; n++) RUN_USER(stack_call, AT + 64, 0);
  set(0);
  expect("PUSH to a missing page", RUN_USER(stack_push, AT + 64, 0), kPF);
  expect("  RSP", last.rsp, AT + 64);
  expect("  CR2", last_cr2, AT + 56);
  expect("  error code", last.error, kWrite);
  expect("CALL with a missing stack", RUN_USER(stack_call, AT + 64, 0), kPF);
  expect("  RSP", last.rsp, AT + 64);
  expect("  RIP", last.rip, USER_CODE + 11);
  expect("RET from a missing stack", RUN_USER(stack_return, AT + 64, 0), kPF);
  expect("  RSP", last.rsp, AT + 64);
  expect("  RIP", last.rip, USER_CODE + 11);
  expect("POP from a missing stack", RUN_USER(stack_pop, AT + 64, 0), kPF);
  expect("  RAX", last.rax, 7);
  expect("  RSP", last.rsp, AT + 64);
}

static void strings(void) {
  u64* next = map_page(AT + 4096, 0, 0);
  invlpg(AT + 4096);
  (void)next;
  set(kP | kW | kU);
  for (u32 n = 0; n < kWarm; n++) RUN_USER(copy, AT, 0);
  expect("REP MOVSQ into a missing page", RUN_USER(copy, AT + 4096 - 24, 0), kPF);
  expect("  RCX", last.rcx, 5);
  expect("  RDI", last.rdi, AT + 4096);
  expect("  RSI", last.rsi, USER_DATA + 24);
  expect("  CR2", last_cr2, AT + 4096);
  expect("REP STOSB into a missing page", RUN_USER(fill, AT + 4096 - 30, 0), kPF);
  expect("  RCX", last.rcx, 70);
  expect("  RDI", last.rdi, AT + 4096);
  for (u32 i = 0; i < 4096; i++) page[i] = 1;
  expect("REPNE SCASB into a missing page", RUN_USER(scan, AT + 4096 - 20, 0), kPF);
  expect("  RCX", last.rcx, 80);
  expect("  RDI", last.rdi, AT + 4096);
}

u32 main(void) {
  write_cr4(read_cr4() | 1 << 9 | 1 << 10);
  write_cr0((read_cr0() & ~4ull) | 2);
  page = new_page(), other = new_page();
  entry = map_page(AT, (u64)page, kP | kW | kU);
  run_table();
  across_pages();
  stacks();
  strings();
  return report();
}
