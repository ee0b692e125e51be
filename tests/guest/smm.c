/* System management mode on an i440FX board: state save area, SMBASE, SMRAM, what is blocked, HLT, the other processor. */
#include "guest.h"

enum { kCommandPort = 0xb2, kHost = 0x80000000, kPower = 0x80000b00, kSmram = 0x72 };
enum { kNothing = 0, kRelocate = 1, kChangeRax = 2, kDisturb = 3, kTouchWindow = 4 };
#define WINDOW 0xa0000ull
#define ENTRY 0x8000

volatile u32 smi_count[2], smi_cr0, smi_rip, smi_revision, smi_nested, smi_window, smi_halted;

/* The handler: counts by APIC id, notes what it finds, then does what the byte at the command port says. */
extern const u8 smi_code[], smi_code_end[];
__asm__(".section .rodata\n.code16\nsmi_code:\n"
        "mov $0xfee00020, %ebx; mov (%ebx), %ecx; shr $24, %ecx; mov $smi_count, %ebx; incl (%ebx, %ecx, 4)\n"
        "mov %cr0, %eax; mov $smi_cr0, %ebx; mov %eax, (%ebx)\n"
        "mov %cs:0xff78, %eax; mov $smi_rip, %ebx; mov %eax, (%ebx)\n"
        "mov %cs:0xfefc, %eax; mov $smi_revision, %ebx; mov %eax, (%ebx)\n"
        "movzbl %cs:0xfec9, %eax; mov $smi_halted, %ebx; mov %eax, (%ebx)\n"
        "in $0xb2, %al\n"
        "cmp $1, %al; jne 1f; movl $0xa0000, %cs:0xff00\n"
        "1: cmp $2, %al; jne 2f; movl $0x5eed, %cs:0xfff8\n"
        "2: cmp $3, %al; jne 3f\n"
        "mov $0xfee00300, %ebx; movl $0x40400, (%ebx); xor %al, %al; out %al, $0xb2\n" /* an NMI and another SMI */
        "mov $smi_count, %ebx; mov (%ebx), %eax; mov $smi_nested, %ebx; mov %eax, (%ebx)\n"
        "3: cmp $4, %al; jne 4f; mov $0xb0000, %ebx; mov (%ebx), %eax; mov $smi_window, %ebx; mov %eax, (%ebx)\n"
        "4: rsm\nsmi_code_end:\n.code64\n.text\n");

static u32 config_read(u32 function, u32 reg) {
  outl(0xcf8, function | (reg & ~3u));
  u32 v;
  __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"((u16)0xcfc));
  return v;
}
static void config_write(u32 function, u32 reg, u32 v) { outl(0xcf8, function | (reg & ~3u)), outl(0xcfc, v); }
static void set_smram(u8 v) { config_write(kHost, kSmram, (config_read(kHost, kSmram) & ~0xff0000u) | (u32)v << 16); }
static u8 smram(void) { return (u8)(config_read(kHost, kSmram) >> 16); }
enum { kOpen = 0x40, kLock = 0x10, kEnable = 0x08 };

static void put_handler(u64 smbase) {
  for (u32 i = 0; i < (u32)(smi_code_end - smi_code); i++) write_byte(smbase + ENTRY + i, smi_code[i]);
}

static void rsm(u64 unused) {
  (void)unused;
  __asm__ volatile("rsm");
}

/* Writes the command; general registers, vectors and flags must outlive the SMI. Returns RAX. */
static u64 interrupted(u8 command) {
  u64 rax = command, rbx = 0x1111111122222222, differ, flags;
  __asm__ volatile("movabs $0x5555555566666666, %%r15; movq %%r15, %%xmm5; stc; std;"
                   "outb %%al, $0xb2;"
                   "pushf; cld; pop %3; and $0x401, %3; movq %%xmm5, %%r14; movabs $0x5555555566666666, %2;"
                   "xor %2, %%r15; xor %2, %%r14; or %%r14, %%r15; mov %%r15, %2"
                   : "+a"(rax), "+b"(rbx), "=&r"(differ), "=&r"(flags) : : "r14", "r15", "cc", "memory");
  expect("registers after RSM", rbx == 0x1111111122222222 && !differ, 1);
  expect("flags after RSM", flags, 0x401);
  return rax;
}

static void first_smi(void) {
  put_handler(0x30000);
  config_write(kPower, 0x58, 1u << 25); /* DEVACTB.APMC_EN */
  u64 cr3 = read_cr3(), cr4 = read_cr4(), efer = rdmsr(0xc0000080);
  interrupted(kNothing);
  expect("one SMI", smi_count[0], 1);
  expect("  without protection and paging", smi_cr0 & 0x80000001, 0);
  expect("  in the layout of 64-bit processors", smi_revision, 0x20064);
  expect("  the state is back", read_cr3() == cr3 && read_cr4() == cr4 && rdmsr(0xc0000080) == efer, 1);
  expect("RAX as the handler has left it", interrupted(kChangeRax), 0x5eed);
  expect("RSM outside", catch_call(rsm, 0), kUD);
}

static void relocation(void) {
  write_byte(WINDOW + ENTRY, 0xa5);
  expect("no memory behind the window", read_byte(WINDOW + ENTRY) == 0xa5, 0);
  set_smram(kOpen | 2);
  put_handler(WINDOW);
  *(volatile u32*)(WINDOW + 0x10000) = 0xcafe;
  expect("the open window is memory", read_byte(WINDOW + ENTRY), smi_code[0]);
  set_smram(kEnable | 2);
  expect("the closed one is not", *(volatile u32*)(WINDOW + 0x10000) == 0xcafe, 0);
  u32 before = smi_count[0];
  interrupted(kRelocate);
  write_byte(0x30000 + ENTRY, 0xf4); /* HLT: the old place is not used again */
  interrupted(kTouchWindow);
  expect("the handler at the new SMBASE", smi_count[0], before + 2);
  expect("  sees the window's memory", smi_window, 0xcafe);
  set_smram(kEnable | kLock | 2);
  set_smram(kOpen | 2);
  expect("locked", smram() & (kOpen | kLock | kEnable), kLock | kEnable);
}

static void blocked(void) {
  count_vector(kNMI, 0);
  u32 before = smi_count[0];
  interrupted(kDisturb);
  expect("an SMI in the handler waits for RSM", smi_nested, before + 1);
  expect("  and comes then", smi_count[0], before + 2);
  expect("so does an NMI", counts[kNMI], 1);
}

/* HLT goes on after the SMI that interrupted it, until an interrupt comes. */
static void halted(void) {
  count_vector(0x40, 1);
  apic_write(0xf0, 0x1ff);
  apic_write(0x3e0, 0xb);
  apic_write(0x320, 0x40);
  outb(kCommandPort, kNothing);
  u32 before = smi_count[0];
  apic_write(0x380, 50000000);
  apic_write(0x310, 0);
  __asm__ volatile("cli; movl $0x40200, %0; sti; hlt; cli" : "=m"(*(volatile u32*)0xfee00300ull)); /* an SMI to itself */
  expect("HLT ended by the timer", counts[0x40], 1);
  expect("  not by the SMI", smi_count[0], before + 1);
}

static volatile u32 ap_ready, ap_done;
void ap_main(void) {
  ap_ready = 1;
  while (!ap_done) __asm__ volatile("pause");
  ap_ready = 2;
}

static void other_processor(void) {
  start_ap();
  while (!ap_ready) __asm__ volatile("pause");
  put_handler(0x30000);
  u32 before = smi_count[0];
  outb(kCommandPort, kNothing);
  expect("the chip set interrupts the first processor", smi_count[0], before + 1);
  expect("  alone", smi_count[1], 0);
  apic_write(0x310, 1u << 24);
  apic_write(0x300, 0x4200);
  while (!smi_count[1]) __asm__ volatile("pause");
  expect("SMI by IPI", smi_count[1], 1);
  ap_done = 1;
  while (ap_ready != 2) __asm__ volatile("pause");
}

u32 main(void) {
  write_cr0(read_cr0() & ~6ull);
  write_cr4(read_cr4() | 0x600);
  first_smi();
  relocation();
  blocked();
  halted();
  other_processor();
  return report();
}
