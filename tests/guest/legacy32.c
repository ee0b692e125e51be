/* 32-bit system behaviour: two- and three-level paging, segment limits, call gates, hardware task switches, v86 and real mode,
   and the instructions that exist only there (SDM vol. 3, chapters 3 to 8 and 20). */
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

struct frame { u32 edi, esi, ebp, esp0, ebx, edx, ecx, eax, vector, error, eip, cs, eflags, esp, ss, es, ds, fs, gs; };
struct tss {
  u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt;
  u16 trap, io_map;
  u8 bitmap[33];
};
enum { kNone = 256, kBR = 5, kOF = 4, kUD = 6, kDE = 0, kTS = 10, kSS = 12, kGP = 13, kPF = 14 };

extern u64 gdt[];
extern const u8 stubs[], real_base[], real_end[];
extern const u32 real_handler_offset;
u32 catch_call(void (*function)(u32), u32 argument);
void catch_return(u32 vector) __attribute__((noreturn));
void enter(const u32* frame);
u32 in_real_mode(u32 argument);

static u64 idt[256];
static struct tss main_tss, other_tss;
static struct frame last;
static u32 last_cr2, failures, checks;
static u8 kernel_stack[8192], other_stack[4096];

static inline void outb(u16 port, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static void print(const char* text) {
  while (*text) outb(0x402, (u8)*text++);
}
static void print_hex(u32 value) {
  print("0x");
  for (int i = 28; i >= 0; i -= 4) outb(0x402, (u8)("0123456789abcdef"[value >> i & 15]));
}
static void expect(const char* what, u32 got, u32 wanted) {
  checks++;
  if (got == wanted) return;
  failures++;
  print("FAIL "), print(what), print(": got "), print_hex(got), print(", wanted "), print_hex(wanted), print("\n");
}

void on_interrupt(struct frame* frame) {
  last = *frame;
  __asm__ volatile("mov %%cr2, %0" : "=r"(last_cr2));
  catch_return(frame->vector);
}

static u64 descriptor(u32 base, u32 limit, u32 access, u32 flags) {
  return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 | (u64)(limit >> 16 & 15) << 48 | (u64)flags << 52 |
         (u64)(base >> 24) << 56;
}
static u64 gate(u32 selector, u32 offset, u32 access, u32 count) {
  return (offset & 0xffff) | (u64)selector << 16 | (u64)count << 32 | (u64)access << 40 | (u64)(offset >> 16) << 48;
}

void setup(void) {
  for (u32 v = 0; v < 256; v++) idt[v] = gate(8, (u32)stubs + 16 * v, 0x8e, 0);
  idt[0x80] = gate(8, (u32)stubs + 16 * 0x80, 0xee, 0);
  struct { u16 limit; u32 base; } __attribute__((packed)) pointer = {sizeof idt - 1, (u32)idt};
  __asm__ volatile("lidt %0" : : "m"(pointer));
  main_tss.ss0 = 0x10, main_tss.esp0 = (u32)kernel_stack + sizeof kernel_stack, main_tss.io_map = sizeof(struct tss);
  gdt[7] = descriptor((u32)&main_tss, sizeof main_tss - 1, 0x89, 0);
  gdt[8] = descriptor((u32)&other_tss, sizeof other_tss - 1, 0x89, 0);
  __asm__ volatile("ltr %w0" : : "r"(0x38));
  outb(0x21, 0xff), outb(0xa1, 0xff);
}

/* -- segments ---------------------------------------------------------------------------------------------------------- */

static void read_fs(u32 offset) { __asm__ volatile("mov %%fs:(%0), %%al" : : "r"(offset) : "eax"); }
static void read_fs_u32(u32 offset) { __asm__ volatile("mov %%fs:(%0), %%eax" : : "r"(offset) : "eax"); }
static void load_fs(u32 selector) { __asm__ volatile("mov %0, %%fs" : : "r"(selector)); }

static void segments(void) {
  gdt[10] = descriptor(0x200000, 0xfff, 0x93, 4);  /* 50: 4 KiB */
  gdt[11] = descriptor(0x200000, 0xfff, 0x97, 4);  /* 58: the same, expand-down */
  load_fs(0x50);
  expect("last byte inside the limit", catch_call(read_fs, 0xfff), kNone);
  expect("first byte past the limit", catch_call(read_fs, 0x1000), kGP);
  expect("  error code", last.error, 0);
  expect("double word across the limit", catch_call(read_fs_u32, 0xffd), kGP);
  load_fs(0x58);
  expect("expand-down: offset 0xfff", catch_call(read_fs, 0xfff), kGP);
  expect("expand-down: offset 0x1000", catch_call(read_fs, 0x1000), kNone);
  load_fs(0);
  expect("null selector", catch_call(read_fs, 0), kGP);
}

/* -- instructions of 32-bit mode ----------------------------------------------------------------------------------------- */

static void bound(u32 index) {
  static const u32 limits[2] = {3, 7};
  __asm__ volatile("bound %0, %1" : : "r"(index), "m"(limits));
}
static void into(u32 a) { __asm__ volatile("add %0, %0; into" : "+r"(a)); }
static void aam_zero(u32 a) { __asm__ volatile(".byte 0xd4, 0" : "+a"(a)); }
#define ADJUST(name, bytes) static u32 name(u32 a) { __asm__ volatile("clc; add $0, %%al; " bytes : "+a"(a)); return a & 0xffff; }
ADJUST(aam, "aam")
ADJUST(aad, "aad")
ADJUST(daa, "daa")
ADJUST(das, "das")
ADJUST(aaa, "aaa")
ADJUST(aas, "aas")

static void instructions(void) {
  expect("BOUND inside", catch_call(bound, 5), kNone);
  expect("BOUND outside", catch_call(bound, 8), kBR);
  expect("INTO without overflow", catch_call(into, 1), kNone);
  expect("INTO with overflow", catch_call(into, 0x7fffffff), kOF);
  expect("AAM by zero", catch_call(aam_zero, 5), kDE);
  expect("AAM", aam(75), 0x0705);
  expect("AAD", aad(0x0705), 75);
  expect("DAA", daa(0x2c), 0x32);
  expect("DAS", das(0x2c), 0x26);
  expect("AAA", aaa(0x2c) & 0xff0f, 0x0102);
  expect("AAS", aas(0x22c) & 0xff0f, 0x0106);
}

/* -- paging -------------------------------------------------------------------------------------------------------------- */

static u32 directory[1024] __attribute__((aligned(4096))), table[1024] __attribute__((aligned(4096)));
static u64 pdpt[4] __attribute__((aligned(32))), pae_directories[4][512] __attribute__((aligned(4096))), pae_table[512] __attribute__((aligned(4096)));
static u8 page[4096] __attribute__((aligned(4096)));
#define AT 0x40000000u

static u32 read_cr0(void) { u32 v; __asm__ volatile("mov %%cr0, %0" : "=r"(v)); return v; }
static void write_cr0(u32 v) { __asm__ volatile("mov %0, %%cr0" : : "r"(v) : "memory"); }
static void write_cr3(u32 v) { __asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory"); }
static void write_cr4(u32 v) { __asm__ volatile("mov %0, %%cr4" : : "r"(v) : "memory"); }
static void invlpg(u32 at) { __asm__ volatile("invlpg (%0)" : : "r"(at) : "memory"); }
static void do_read(u32 at) { (void)*(volatile u8*)at; }
static void do_write(u32 at) { *(volatile u8*)at = 1; }

static void expect_fault(const char* what, void (*access)(u32), u32 at, u32 error) {
  expect(what, catch_call(access, at), kPF);
  expect("  error code", last.error, error);
  expect("  CR2", last_cr2, at);
}

static void two_levels(void) {
  for (u32 i = 0; i < 1024; i++) directory[i] = i << 22 | 0x83; /* 4 MiB pages */
  directory[AT >> 22] = (u32)table | 7;
  table[0] = (u32)page | 3;
  write_cr4(0x10);
  write_cr3((u32)directory);
  write_cr0(read_cr0() | 0x80010000);
  expect("4 KiB page", catch_call(do_read, AT), kNone);
  expect("  A without D", table[0] & 0x60, 0x20);
  catch_call(do_write, AT);
  expect("  A and D", table[0] & 0x60, 0x60);
  expect_fault("missing 4 KiB page", do_write, AT + 4096, 2);
  table[0] = (u32)page | 1;
  invlpg(AT);
  expect_fault("read-only 4 KiB page", do_write, AT, 3);
  directory[0x800000 >> 22] = 0x800000 | 0x83;
  invlpg(0x800000);
  *(volatile u8*)0x800010 = 1;
  __asm__ volatile("" : : : "memory");
  expect("A and D of a 4 MiB page", directory[2] & 0x60, 0x60);
  write_cr0(read_cr0() & ~0x80000000u);
}

static void three_levels(void) {
  for (u32 i = 0; i < 2048; i++) pae_directories[i / 512][i % 512] = (u64)i << 21 | 0x83;
  for (u32 i = 0; i < 4; i++) pdpt[i] = (u32)pae_directories[i] | 1;
  pae_directories[1][0] = (u32)pae_table | 7;
  pae_table[0] = (u32)page | 3;
  write_cr4(0x20);
  write_cr3((u32)pdpt);
  write_cr0(read_cr0() | 0x80010000);
  ((volatile u8*)page)[3] = 77;
  expect("PAE: 4 KiB page", *(volatile u8*)(AT + 3), 77);
  expect_fault("PAE: missing page", do_read, AT + 4096, 0);
  pae_table[0] |= 1ull << 63;
  invlpg(AT);
  expect_fault("PAE: NX bit without EFER.NXE is reserved", do_read, AT, 9);
  pdpt[1] = 0; /* cached since the CR3 write */
  pae_table[0] &= ~(1ull << 63);
  invlpg(AT);
  expect("PAE: a changed PDPTE has no effect before CR3 is written", catch_call(do_read, AT), kNone);
  write_cr3((u32)pdpt);
  expect_fault("PAE: but then", do_read, AT, 0);
  write_cr0(read_cr0() & ~0x80000000u);
  write_cr4(0);
}

/* -- rings and tasks ------------------------------------------------------------------------------------------------------- */

static u8 user_stack[4096];
static void go(u32 frame) { enter((const u32*)frame); }
static u32 run_user_on(const void* eip, u32 eflags, u32 ss, u32 esp) {
  u32 frame[9] = {(u32)eip, 0x2b, eflags, esp, ss, 0, 0, 0, 0};
  return catch_call(go, (u32)frame);
}
static u32 run_user(const void* eip, u32 eflags) {
  return run_user_on(eip, eflags, 0x33, (u32)user_stack + sizeof user_stack - 64);
}
extern const u8 user_cli[], user_push[], user_gate[], user_task[], gate_target[], v86_code[], v86_code_end[], task_entry[];
__asm__(".text\n"
        "user_cli: cli\n"
        "user_push: push %eax; int $0x80\n"
        "user_gate: push $0x1234; push $0x5678; lcall $0x4b, $0; int $0x80\n"
        "gate_target: mov %cs, %eax; mov 8(%esp), %ecx; mov 12(%esp), %edx; mov 20(%esp), %ebx; lret $8\n"
        "user_task: lcall $0x63, $0; int $0x80\n"
        "task_entry: mov %esp, %ecx; str %edx; pushf; pop %ebx; iret; jmp task_entry\n"
        "v86_code: .code16; mov %ds, %ax; mov $0x1234, %cx; int $0x21; .code32\n"
        "v86_code_end:\n");

static void rings(void) {
  expect("CLI at CPL 3", run_user(user_cli, 2), kGP);
  expect("  from user code", last.cs, 0x2b);
  expect("  user stack saved", last.ss, 0x33);
  gdt[10] = descriptor(0x200000, 0xfff, 0xf3, 4);
  expect("push past the stack's limit", run_user_on(user_push, 2, 0x53, 0x2000), kSS);
  expect("  error code", last.error, 0);
  expect("push up to the stack's limit", run_user_on(user_push, 2, 0x53, 0x1000), 0x80);
  gdt[9] = gate(8, (u32)gate_target, 0xec, 2);
  expect("call gate with two parameters", run_user(user_gate, 2), 0x80);
  expect("  ran at CPL 0", last.eax, 8);
  expect("  first parameter", last.ecx, 0x5678);
  expect("  second parameter", last.edx, 0x1234);
  expect("  user SS on the new stack", last.ebx, 0x33);
  expect("  RET popped the parameters", last.esp, (u32)user_stack + sizeof user_stack - 64);
}

static void far_call_tss(u32 unused) {
  (void)unused;
  __asm__ volatile("lcall $0x40, $0" : : : "memory");
}

static void tasks(void) {
  other_tss = (struct tss){.eip = (u32)task_entry, .eflags = 2, .esp = (u32)other_stack + sizeof other_stack, .cs = 8, .ss = 0x10, .ds = 0x10, .es = 0x10, .io_map = sizeof(struct tss)};
  expect("far call to a TSS and IRET back", catch_call(far_call_tss, 0), kNone);
  expect("  the task had its stack", other_tss.ecx, (u32)other_stack + sizeof other_stack);
  expect("  its TR", other_tss.edx & 0xffff, 0x40);
  expect("  NT was set", other_tss.ebx & 0x4000, 0x4000);
  expect("  back link", other_tss.link, 0x38);
  expect("  not busy any more", (u32)(gdt[8] >> 40) & 0xff, 0x89);
  expect("  the first task is busy", (u32)(gdt[7] >> 40) & 0xff, 0x8b);
  gdt[12] = gate(0x40, 0, 0xe5, 0);
  expect("task gate from CPL 3", run_user(user_task, 2), 0x80);
  expect("  back in user code", last.cs, 0x2b);
}

/* -- v86 and real mode --------------------------------------------------------------------------------------------------- */

static void v86(void) {
  for (size_t i = 0; i < (size_t)(v86_code_end - v86_code); i++) ((volatile u8*)0xa000)[i] = v86_code[i];
  u32 frame[9] = {0, 0xa00, 1 << 17 | 2, 0x100, 0xb00, 0, 0xc00, 0, 0};
  expect("INT in v86 mode with IOPL 0", catch_call(go, (u32)frame), kGP);
  expect("  VM in the saved flags", last.eflags >> 17 & 1, 1);
  expect("  AX is the v86 DS", last.eax & 0xffff, 0xc00);
  expect("  CX", last.ecx & 0xffff, 0x1234);
  expect("  saved DS", last.ds, 0xc00);
  expect("  IP of the INT", last.eip, 5);
  frame[2] |= 3 << 12;
  idt[0x21] = gate(8, (u32)stubs + 16 * 0x21, 0xee, 0);
  expect("INT in v86 mode with IOPL 3", catch_call(go, (u32)frame), 0x21);
  expect("  IP after the INT", last.eip, 7);
}

static void real_mode(void) {
  for (size_t i = 0; i < (size_t)(real_end - real_base); i++) ((volatile u8*)0x9000)[i] = real_base[i];
  *(volatile u32*)(0x21 * 4) = real_handler_offset;
  expect("INT in real mode", in_real_mode(0x2222), 0x3333);
}

u32 main(void) {
  segments();
  instructions();
  two_levels();
  three_levels();
  rings();
  tasks();
  v86();
  real_mode();
  print(failures ? "failed " : "passed "), print_hex(checks), print(" checks\n");
  return failures ? 2 : 1;
}
