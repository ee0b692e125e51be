/* User code that tries what it must not: system calls of every kind, far transfers, segment and base loads, privileged
   instructions, jumps to where nothing is. Every attempt is made often enough to be translated, and each must end as the manual
   says, with the registers of the attacker and not of the machine below. */
#include "guest.h"

enum { kTries = 80 };

/* Runs user code kTries times; every time it must end with `vector` and leave RIP `offset` bytes into it. */
static void expect_often(const char* what, const u8* code, const u8* end, u64 rdi, u64 rsi, u32 vector, u64 error, u64 rip) {
  u32 other = 0, seen = vector;
  u64 wrong_error = error, wrong_rip = rip;
  for (u32 i = 0; i < kTries; i++) {
    u32 got = run_user(code, (size_t)(end - code), rdi, rsi, 2);
    if (got != vector) other++, seen = got;
    if (last.error != error) wrong_error = last.error;
    if (last.rip != rip) wrong_rip = last.rip;
  }
  expect(what, seen, vector);
  expect("  every time", other, 0);
  expect("  error code", wrong_error, error);
  expect("  RIP", wrong_rip, rip);
}
#define ATTEMPT(what, name, rdi, vector, error, offset) expect_often(what, name, name##_end, rdi, 0, vector, error, USER_CODE + (offset))

/* Loops first, so that the attempt is in hot code. */
#define HOT "mov $40, %ecx; 9: dec %ecx; jnz 9b; "
#define ATTACK(name, text) USER_CODE_BYTES(name, HOT text)
enum { kHot = 9 }; /* bytes of HOT */

ATTACK(try_cli, "cli");
ATTACK(try_sti, "sti");
ATTACK(try_hlt, "hlt");
ATTACK(try_in, "in $0x71, %al");
ATTACK(try_out, "out %al, $0x70");
ATTACK(try_ins, "insb");
ATTACK(try_rdmsr, "rdmsr");
ATTACK(try_wrmsr, "wrmsr");
ATTACK(try_cr0, "mov %rax, %cr0");
ATTACK(try_cr3, "mov %cr3, %rax");
ATTACK(try_dr7, "mov %rax, %dr7");
ATTACK(try_clts, "clts");
ATTACK(try_lgdt, "lgdt (%rsp)");
ATTACK(try_lidt, "lidt (%rsp)");
ATTACK(try_ltr, "ltr %ax");
ATTACK(try_lmsw, "lmsw %ax");
ATTACK(try_invlpg, "invlpg (%rsp)");
ATTACK(try_wbinvd, "wbinvd");
ATTACK(try_swapgs, "swapgs");
ATTACK(try_sysret, "sysretq");
ATTACK(try_sysexit, "sysexitl");
ATTACK(try_xsetbv, "xsetbv");
ATTACK(try_ud2, "ud2");
ATTACK(try_vmcall, "vmcall");
ATTACK(try_lock_nop, ".byte 0xf0, 0x90");
ATTACK(try_lock_load, ".byte 0xf0, 0x8b, 0x07");
ATTACK(try_overlong, ".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90");
ATTACK(try_push_es, ".byte 0x06");
ATTACK(try_int20, "int $0x20");
ATTACK(try_int80, "int $0x80");
ATTACK(try_int3, "int3");

static void privileged(void) {
  static const struct { const char* what; const u8 *code, *end; } kGpAttempts[] = {
      {"CLI", try_cli, try_cli_end}, {"STI", try_sti, try_sti_end}, {"HLT", try_hlt, try_hlt_end}, {"IN", try_in, try_in_end},
      {"OUT", try_out, try_out_end}, {"INS", try_ins, try_ins_end}, {"RDMSR", try_rdmsr, try_rdmsr_end},
      {"WRMSR", try_wrmsr, try_wrmsr_end}, {"MOV to CR0", try_cr0, try_cr0_end}, {"MOV from CR3", try_cr3, try_cr3_end},
      {"MOV to DR7", try_dr7, try_dr7_end}, {"CLTS", try_clts, try_clts_end}, {"LGDT", try_lgdt, try_lgdt_end},
      {"LIDT", try_lidt, try_lidt_end}, {"LTR", try_ltr, try_ltr_end}, {"LMSW", try_lmsw, try_lmsw_end},
      {"INVLPG", try_invlpg, try_invlpg_end}, {"WBINVD", try_wbinvd, try_wbinvd_end}, {"SWAPGS", try_swapgs, try_swapgs_end},
      {"SYSRET", try_sysret, try_sysret_end}, {"overlong instruction", try_overlong, try_overlong_end}};
  for (u32 i = 0; i < sizeof kGpAttempts / sizeof *kGpAttempts; i++)
    expect_often(kGpAttempts[i].what, kGpAttempts[i].code, kGpAttempts[i].end, 0, 0, kGP, 0, USER_CODE + kHot);
  static const struct { const char* what; const u8 *code, *end; } kUdAttempts[] = {
      {"UD2", try_ud2, try_ud2_end}, {"LOCK NOP", try_lock_nop, try_lock_nop_end}, {"LOCK MOV", try_lock_load, try_lock_load_end},
      {"PUSH ES", try_push_es, try_push_es_end}, {"VMCALL", try_vmcall, try_vmcall_end}, {"XSETBV without OSXSAVE", try_xsetbv, try_xsetbv_end}};
  for (u32 i = 0; i < sizeof kUdAttempts / sizeof *kUdAttempts; i++)
    expect_often(kUdAttempts[i].what, kUdAttempts[i].code, kUdAttempts[i].end, 0, 0, kUD, 0, USER_CODE + kHot);
  ATTEMPT("INT through a gate of ring 0", try_int20, 0, kGP, 0x20 << 3 | 2, kHot);
  ATTEMPT("INT through a gate of ring 3", try_int80, 0, 0x80, 0, kHot + 2);
  ATTEMPT("INT3 through a gate of ring 0", try_int3, 0, kGP, 3 << 3 | 2, kHot);
}

/* SYSCALL goes where LSTAR says, SYSENTER where SYSENTER_EIP says or faults. */
ATTACK(try_syscall, "mov %rsp, %rsi; syscall");
ATTACK(try_sysenter, "sysenter");
__asm__(".text\n.globl on_syscall\non_syscall: mov %cs, %eax; int $0x82");
extern const u8 on_syscall[];

static void system_calls(void) {
  wrmsr(0xc0000081, 0x18ull << 48 | 0x08ull << 32);
  wrmsr(0xc0000084, 0);
  wrmsr(0xc0000082, (u64)on_syscall);
  expect_often("SYSCALL", try_syscall, try_syscall_end, 0, 0, 0x82, 0, (u64)on_syscall + 4);
  expect("  CS", last.rax, 0x08);
  expect("  RCX", last.rcx, USER_CODE + (u64)(try_syscall_end - try_syscall));
  expect("  RSP is the user's", last.rsp, last.rsi);
  wrmsr(0xc0000080, rdmsr(0xc0000080) & ~1ull);
  expect_often("SYSCALL without EFER.SCE", try_syscall, try_syscall_end, 0, 0, kUD, 0, USER_CODE + kHot + 3);
  wrmsr(0xc0000080, rdmsr(0xc0000080) | 1);
  u32 vector = RUN_USER(try_sysenter, 0, 0); /* #UD on AMD in long mode, else #GP as SYSENTER_CS is 0 */
  expect("SYSENTER", vector == kUD || vector == kGP, 1);
  expect("  RIP", last.rip, USER_CODE + kHot);
  vector = RUN_USER(try_sysexit, 0, 0);
  expect("SYSEXIT", vector == kUD || vector == kGP, 1);
}

ATTACK(try_far_jump, "ljmp *(%rdi)");
ATTACK(try_far_call, "lcall *(%rdi)");
ATTACK(try_far_return, "mov %rsp, %rbx; push $8; push $0; lretq");
ATTACK(try_iret, "mov %rsp, %rbx; push $0x10; push %rbx; push $2; push $8; push $0; iretq");
ATTACK(try_load_ss, "mov $0x10, %eax; mov %eax, %ss");
ATTACK(try_load_ds, "mov $0x10, %eax; mov %eax, %ds");
ATTACK(try_load_fs, "mov $0x10, %eax; mov %eax, %fs");
ATTACK(try_load_null, "xor %eax, %eax; mov %eax, %ds; mov %eax, %es; mov (%rsp), %rbx; mov $0x23, %eax; mov %eax, %ds; int $0x80");

static void far_transfers(void) {
  u8* data = new_page();
  map_page(USER_DATA + 0x10000, (u64)data, kP | kU);
  *(u64*)data = (u64)on_syscall & 0xffffffff;
  *(u16*)(data + 4) = 0x08;
  u64 pointer = USER_DATA + 0x10000;
  ATTEMPT("far JMP to ring 0", try_far_jump, pointer, kGP, 8, kHot);
  ATTEMPT("far CALL to ring 0", try_far_call, pointer, kGP, 8, kHot);
  *(u16*)(data + 4) = 0x30;
  ATTEMPT("far JMP to the TSS", try_far_jump, pointer, kGP, 0x30, kHot);
  *(u16*)(data + 4) = 0;
  ATTEMPT("far JMP to nothing", try_far_jump, pointer, kGP, 0, kHot);
  *(u16*)(data + 4) = 0xfff8;
  ATTEMPT("far JMP past the table", try_far_jump, pointer, kGP, 0xfff8, kHot);
  ATTEMPT("far RET to ring 0", try_far_return, 0, kGP, 8, kHot + 7);
  ATTEMPT("IRET to ring 0", try_iret, 0, kGP, 8, kHot + 12);
  ATTEMPT("SS of ring 0", try_load_ss, 0, kGP, 0x10, kHot + 5);
  ATTEMPT("DS of ring 0", try_load_ds, 0, kGP, 0x10, kHot + 5);
  ATTEMPT("FS of ring 0", try_load_fs, 0, kGP, 0x10, kHot + 5);
  ATTEMPT("null data segments do no harm in 64-bit mode", try_load_null, 0, 0x80, 0, try_load_null_end - try_load_null);
}

ATTACK(try_rdfsbase, "rdfsbase %rax; int $0x80");
ATTACK(try_wrgsbase, "wrgsbase %rdi; rdgsbase %rax; int $0x80");
ATTACK(try_gs_load, "wrgsbase %rdi; mov %gs:0, %rax; int $0x80");
ATTACK(try_fs_store, "wrfsbase %rdi; movb $1, %fs:0; int $0x80");

static void segment_bases(void) {
  ATTEMPT("RDFSBASE without CR4.FSGSBASE", try_rdfsbase, 0, kUD, 0, kHot);
  ATTEMPT("WRGSBASE without CR4.FSGSBASE", try_wrgsbase, 0, kUD, 0, kHot);
  if (!cpuid_has(7, 1, 0)) return;
  write_cr4(read_cr4() | 1 << 16);
  wrmsr(0xc0000100, 0x123456000);
  ATTEMPT("RDFSBASE", try_rdfsbase, 0, 0x80, 0, try_rdfsbase_end - try_rdfsbase);
  expect("  value", last.rax, 0x123456000);
  ATTEMPT("WRGSBASE", try_wrgsbase, 0x7654321000, 0x80, 0, try_wrgsbase_end - try_wrgsbase);
  expect("  value", last.rax, 0x7654321000);
  expect("  MSR", rdmsr(0xc0000101), 0x7654321000);
  ATTEMPT("WRGSBASE of a non-canonical address", try_wrgsbase, 0x8000000000000000, kGP, 0, kHot);
  ATTEMPT("load through a base of the user's", try_gs_load, USER_DATA, 0x80, 0, try_gs_load_end - try_gs_load);
  ATTEMPT("load through a base in the kernel", try_gs_load, (u64)gdt, kPF, 5, kHot + 5);
  ATTEMPT("store through a base in the kernel", try_fs_store, (u64)gdt, kPF, 7, kHot + 5);
  write_cr4(read_cr4() & ~(1ull << 16));
  wrmsr(0xc0000100, 0), wrmsr(0xc0000101, 0);
  ATTEMPT("RDFSBASE after CR4.FSGSBASE was cleared", try_rdfsbase, 0, kUD, 0, kHot);
}

ATTACK(jump_to, "jmp *%rdi");
ATTACK(call_to, "call *%rdi");
ATTACK(return_to, "push %rdi; ret");

static void expect_missing(const char* what, u64 target, u64 error) {
  expect_often(what, jump_to, jump_to_end, target, 0, kPF, error, target);
  expect("  CR2", last_cr2, target);
  expect_often(what, call_to, call_to_end, target, 0, kPF, error, target);
  expect_often(what, return_to, return_to_end, target, 0, kPF, error, target);
}

/* The addresses that this very processor's emulation has its code, its stack and its libraries at are like any others. */
static void wild_jumps(void) {
  static const u64 kTargets[] = {0xffffffffff600000, 0xffffffffff600400, 0x555555554000, 0x555555555040, 0x7ffff7dd0000, 0x7ffff7fc1000,
                                 0x7fffffffe000, 0x7ffffffff000, 0x20000000000, 0x400000000000, 0xffff800000000000, 0xfffffffffffff000};
  for (u32 i = 0; i < sizeof kTargets / sizeof *kTargets; i++) expect_missing("jump to where nothing is", kTargets[i], 0x14);
  u64 random = 0x123456789abcdef;
  u32 wrong = 0;
  for (u32 i = 0; i < 3000; i++) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    u64 target = (random & 0x7fffffffffff) | 0x40000000000; /* beyond what this guest maps */
    wrong += RUN_USER(jump_to, target, 0) != kPF || last.rip != target || last_cr2 != target || last.cs != 0x2b;
  }
  expect("jumps to random addresses", wrong, 0);
  expect_missing("jump into the kernel", (u64)on_syscall, 0x15);
}

/* The branch itself faults, and has not happened: SDM vol. 2, JMP, CALL and RET. */
static void non_canonical(void) {
  ATTEMPT("jump to a non-canonical address", jump_to, 0x800000000000, kGP, 0, kHot);
  expect_often("call of a non-canonical address", call_to, call_to_end, 0xffff7fffffffffff, 0, kGP, 0, USER_CODE + kHot);
  expect("  RSP", last.rsp, USER_STACK + 4096 - 64);
  expect_often("return to a non-canonical address", return_to, return_to_end, 0x1234567890000000, 0, kGP, 0, USER_CODE + kHot + 1);
  expect("  RSP", last.rsp, USER_STACK + 4096 - 72);
}

/* RDI = 0: runs the whole instruction; 1: enters it two bytes late, where its immediate is `mov $2, %al; int $0x80`. */
USER_CODE_BYTES(overlapping, "mov $1, %eax; lea 1f(%rip), %rdx; add %rdi, %rdx; add %rdi, %rdx; jmp *%rdx; 1: .byte 0x48, 0xb8, 0xb0, 2, 0xcd, 0x80, 0, 0, 0, 0; int $0x80");

static void middle_of_instructions(void) {
  u32 wrong = 0;
  for (u32 i = 0; i < 4 * kTries; i++) {
    u32 vector = RUN_USER(overlapping, i & 1, 0);
    wrong += vector != 0x80 || last.rax != (i & 1 ? 2 : 0x80cd02b0);
  }
  expect("an instruction and what is in the middle of it", wrong, 0);
}

/* Code at the end of a page whose neighbour is missing, and an instruction that reaches over. */
static void end_of_page(void) {
  u8* page = new_page();
  u64 at = USER_CODE + 0x20000;
  map_page(at, (u64)page, kP | kU);
  map_page(at + 4096, 0, 0);
  for (u32 i = 0; i < 4096; i++) page[i] = 0x90;
  u32 wrong = 0;
  for (u32 i = 0; i < kTries; i++)
    wrong += RUN_USER(jump_to, at + 4000, 0) != kPF || last.rip != at + 4096 || last_cr2 != at + 4096 || last.error != 0x14;
  expect("code that runs off its page", wrong, 0);
  page[4094] = 0xb8; /* mov $imm32, %eax */
  for (u32 i = 0; i < kTries; i++)
    wrong += RUN_USER(jump_to, at + 4000, 0) != kPF || last.rip != at + 4094 || last_cr2 != at + 4096 || last.error != 0x14;
  expect("an instruction that reaches into a missing page", wrong, 0);
}

/* RSP is a register like any other. */
USER_CODE_BYTES(strange_stack, "mov %rsp, %rbx; mov %rdi, %rsp; mov $2000, %ecx; 1: add $3, %rsp; sub $3, %rsp; dec %ecx; jnz 1b; mov %rsp, %rax; mov %rbx, %rsp; int $0x80");

static void strange_stacks(void) {
  static const u64 kStacks[] = {0, 1, 0x7ffff7dd0000, 0x8000000000000000, 0xffffffffffffffff, 0xdeadbeefcafe};
  for (u32 i = 0; i < sizeof kStacks / sizeof *kStacks; i++) {
    expect("any value in RSP", RUN_USER(strange_stack, kStacks[i], 0), 0x80);
    expect("  is kept", last.rax, kStacks[i]);
  }
}

u32 main(void) {
  privileged();
  system_calls();
  far_transfers();
  segment_bases();
  wild_jumps();
  non_canonical();
  middle_of_instructions();
  end_of_page();
  strange_stacks();
  return report();
}
