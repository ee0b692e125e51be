/* Interrupt delivery: PIC and PIT, local APIC timer and self IPIs, I/O APIC, HLT, shadows, NMI, single step and breakpoints. */
#include "guest.h"

static void sti_hlt(void) { __asm__ volatile("sti; hlt; cli" : : : "memory"); }
static void window(void) { __asm__ volatile("sti; nop; nop; cli" : : : "memory"); }

static void init_pics(u8 mask) {
  outb(0x20, 0x11), outb(0x21, 0x30), outb(0x21, 4), outb(0x21, 1);
  outb(0xa0, 0x11), outb(0xa1, 0x38), outb(0xa1, 2), outb(0xa1, 1);
  outb(0x21, mask), outb(0xa1, 0xff);
}

static void pit(void) {
  count_vector(0x30, 0);
  init_pics(0xfe);
  apic_write(0xf0, 0x1ff);  /* LVT entries stay masked while the APIC is off */
  apic_write(0x350, 0x700); /* LINT0: ExtINT */
  outb(0x43, 0x30), outb(0x40, 0x00), outb(0x40, 0x04); /* channel 0, one shot */
  while (!counts[0x30]) sti_hlt();
  expect("one PIT interrupt through the PIC", counts[0x30], 1);
  outb(0x20, 0x0b);
  expect("  in service", inb(0x20), 1);
  outb(0x20, 0x20);
  outb(0x20, 0x0b);
  expect("  ended", inb(0x20), 0);
  init_pics(0xff);
}

static void apic(void) {
  count_vector(0x40, 1);
  count_vector(0x51, 1);
  count_vector(0x62, 1);
  apic_write(0xf0, 0x1ff);
  apic_write(0x80, 0);
  apic_write(0x3e0, 0xb); /* divide by 1 */
  apic_write(0x320, 0x40);
  apic_write(0x380, 100000);
  while (!counts[0x40]) sti_hlt();
  expect("one local APIC timer interrupt", counts[0x40], 1);
  apic_write(0x320, 0x10040);
  apic_write(0x300, 0x00040051); /* self IPI */
  apic_write(0x300, 0x00040062);
  expect("IPIs wait while IF is clear", counts[0x51] + counts[0x62], 0);
  expect("  IRR", apic_read(0x220) >> 17 & 1, 1);
  apic_write(0x80, 0x60);
  expect("  CR8 shows the TPR", read_cr8(), 6);
  window();
  expect("TPR 0x60 holds vectors 0x51 and 0x62 back", counts[0x51] + counts[0x62], 0);
  write_cr8(5);
  window();
  expect("CR8 5 lets vector 0x62 through", counts[0x62], 1);
  expect("  but not 0x51", counts[0x51], 0);
  write_cr8(0);
  window();
  expect("CR8 0 lets vector 0x51 through", counts[0x51], 1);
}

static void x2apic(void) {
  if (!cpuid_has(1, 2, 21)) return;
  wrmsr(0x1b, rdmsr(0x1b) | 0x400);
  wrmsr(0x83f, 0x51); /* self IPI */
  window();
  expect("x2APIC self IPI", counts[0x51], 2);
  expect("x2APIC id", rdmsr(0x802), 0);
  wrmsr(0x1b, rdmsr(0x1b) & ~0xc00ull);
  wrmsr(0x1b, rdmsr(0x1b) | 0x800);
  apic_write(0xf0, 0x1ff);
}

static void shadow(void) {
  apic_write(0x300, 0x00040051);
  u32 before = counts[0x51];
  __asm__ volatile("sti; cli" : : : "memory");
  expect("no interrupt between STI and CLI", counts[0x51], before);
  window();
  expect("but after the shadow", counts[0x51], before + 1);
}

static void nmi(void) {
  count_vector(kNMI, 0);
  apic_write(0x300, 0x00040400);
  for (volatile int i = 0; i < 1000 && !counts[kNMI]; i++) {}
  expect("NMI with IF clear", counts[kNMI], 1);
}

USER_CODE_BYTES(user_nops, "nop; nop; nop; int $0x80");

static void single_step(void) {
  expect("single step", run_user(user_nops, (size_t)(user_nops_end - user_nops), 0, 0, 0x102), kDB);
  expect("  after one instruction", last.rip, USER_CODE + 1);
  expect("  DR6.BS", read_dr6() & 0x400f, 0x4000);
  write_dr6(0xffff0ff0);
}

static void write_breakpoints(u64 linear, u64 dr7) {
  write_dr0(linear);
  write_dr7(dr7);
}
static u64 watched;
static void touch(u64 value) { *(volatile u64*)&watched = value; }

static void breakpoints(void) {
  write_breakpoints(USER_CODE + 2, 0x402);
  expect("instruction breakpoint", RUN_USER(user_nops, 0, 0), kDB);
  expect("  before the instruction", last.rip, USER_CODE + 2);
  expect("  DR6.B0", read_dr6() & 15, 1);
  write_dr6(0xffff0ff0);
  write_breakpoints((u64)&watched, 0x402 | 0xdull << 16); /* write, 8 bytes */
  expect("data breakpoint", catch_call(touch, 5), kDB);
  expect("  after the write", watched, 5);
  write_dr7(0x400);
  expect("none when disabled", catch_call(touch, 6), kNone);
}

u32 main(void) {
  pit();
  apic();
  x2apic();
  shadow();
  nmi();
  single_step();
  breakpoints();
  return report();
}
