/* Modes and registers of the local APIC, NMIs, and the I/O APIC's lines, which pc-testdev moves (ports 0x2000 and up). */
#include "guest.h"

enum { kBase = 0x1b, kOn = 0xc00, kXapic = 0x800, kX2apic = 0xc00 };
#define MMIO 0xfee00000ull
#define IOAPIC 0xfec00000ull

static u64 base; /* IA32_APIC_BASE without its mode */

static void set_mode(u64 mode) { wrmsr(kBase, base | mode); }
static void try_mode(u64 mode) { set_mode(mode); }
static void try_base(u64 value) { wrmsr(kBase, value); }

static void modes(void) {
  set_mode(kX2apic);
  expect("x2APIC to the invalid mode", catch_call(try_mode, 0x400), kGP);
  expect("x2APIC to xAPIC", catch_call(try_mode, kXapic), kGP);
  expect("x2APIC to off", catch_call(try_mode, 0), kNone);
  expect("CPUID without APIC", cpuid_has(1, 3, 9), 0);
  expect("off to the invalid mode", catch_call(try_mode, 0x400), kGP);
  expect("off to x2APIC", catch_call(try_mode, kX2apic), kGP);
  expect("registers of an APIC that is off", apic_read(0x30), 0xffffffff);
  write_cr8(15);
  expect("CR8 works all the same", read_cr8(), 15);
  expect("  but shows nowhere", apic_read(0x80), 0xffffffff);
  write_cr8(0);
  expect("off to xAPIC", catch_call(try_mode, kXapic), kNone);
  expect("CPUID with APIC", cpuid_has(1, 3, 9), 1);
  expect("version", apic_read(0x30) & 0xf0, 0x10);
  write_cr8(15);
  expect("CR8 is the task priority", apic_read(0x80), 0xf0);
  write_cr8(0);
  expect("xAPIC to the invalid mode", catch_call(try_mode, 0x400), kGP);
}

static void addresses(void) {
  u32 a = 0x80000008, b, c, d;
  __asm__("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
  u32 version = apic_read(0x30);
  expect("base beyond the physical address", catch_call(try_base, base | kXapic | 1ull << (a & 255)), kGP);
  expect("base with reserved bits", catch_call(try_base, base | kXapic | 1), kGP);
  wrmsr(kBase, 0xfed40000 | (base & 0x100) | kXapic);
  expect("APIC at another address", *(volatile u32*)0xfed40030ull, version);
  set_mode(kXapic);
}

static volatile u32 nested_nmis;
static void on_nmi(struct frame* frame) {
  (void)frame;
  if (++nested_nmis > 1) return;
  for (int i = 0; i < 10; i++) apic_write(0x310, 0), apic_write(0x300, 0x400);
}

static void nmis(void) {
  handle_vector(kNMI, on_nmi);
  for (int i = 0; i < 1000; i++) {
    nested_nmis = 0;
    apic_write(0x310, 0), apic_write(0x300, 0x400);
    while (nested_nmis < 2) __asm__ volatile("pause");
    if (nested_nmis != 2) break;
  }
  expect("NMIs that come in an NMI's handler are one", nested_nmis, 2);
}

static void timer(void) {
  count_vector(0x40, 1);
  apic_write(0xf0, 0x1ff);
  apic_write(0x3e0, 0xb);
  apic_write(0x320, 0x10040);
  apic_write(0x380, 0x999999);
  apic_write(0x320, 0x30040);
  expect("the initial count outlives a change to periodic", apic_read(0x380), 0x999999);
  enum { kSecond = 1000000000, kSoon = kSecond / 16 * 15 };
  apic_write(0x320, 0x10040);
  apic_write(0x380, kSecond);
  while (apic_read(0x390) > kSoon) {}
  apic_write(0x320, 0x30040);
  u32 now = apic_read(0x390), before = now;
  expect("so does the current count", now && now <= kSoon, 1);
  apic_write(0x380, 1000000);
  while (now <= before) before = now, now = apic_read(0x390);
  expect("and it starts again", now > 0, 1);
  apic_write(0x320, 0x10040);
  while (apic_read(0x390)) {}
  expect("one shot ends with zero", apic_read(0x390), 0);
  if (!cpuid_has(1, 2, 24)) return;
  apic_write(0x320, 0x40040);
  expect("TSC deadline mode has no count", apic_read(0x390), 0);
  wrmsr(0x6e0, 1);
  __asm__ volatile("sti; nop; nop; cli");
  expect("a deadline in the past is due", counts[0x40], 1);
  expect("and gone", rdmsr(0x6e0), 0);
  apic_write(0x320, 0x10040);
}

static void ioapic_write(u32 index, u32 value) {
  *(volatile u32*)IOAPIC = index;
  *(volatile u32*)(IOAPIC + 0x10) = value;
}
static u32 ioapic_read(u32 index) {
  *(volatile u32*)IOAPIC = index;
  return *(volatile u32*)(IOAPIC + 0x10);
}
enum { kEdge = 0, kLevel = 1 << 15, kMasked = 1 << 16, kRemoteIrr = 1 << 14 };
static void route(u32 line, u32 low) {
  ioapic_write(0x11 + 2 * line, 0);
  ioapic_write(0x10 + 2 * line, low);
}
static void set_line(u32 line, u8 level) { outb((u16)(0x2000 + line), level); }
static void window(void) { __asm__ volatile("sti; nop; nop; cli" : : : "memory"); }

static u32 order[4], ordered, trigger_modes;
static void on_line(struct frame* frame) {
  if (ordered < 4) order[ordered] = (u32)frame->vector;
  u32 vector = (u32)frame->vector;
  if (apic_read(0x180 + vector / 32 * 16) >> (vector % 32) & 1) trigger_modes |= 1u << ordered;
  ordered++;
  if (vector == 0x79 && ordered == 3) set_line(0xe, 0); /* a level line stays up for three rounds */
  apic_write(0xb0, 0);
}

static void edges(void) {
  handle_vector(0x78, on_line), handle_vector(0x66, on_line), handle_vector(0x79, on_line);
  route(0xe, 0x78 | kEdge), route(0xf, 0x66 | kEdge);
  set_line(0xf, 1), set_line(0xf, 0);
  set_line(0xe, 1), set_line(0xe, 0);
  window();
  expect("two lines", ordered, 2);
  expect("  the higher vector first", order[0], 0x78);
  expect("  edges leave the trigger mode clear", trigger_modes, 0);
  route(0xe, 0x78 | kEdge | kMasked);
  ordered = 0;
  set_line(0xe, 1), set_line(0xe, 0);
  window();
  expect("a masked line", ordered, 0);
  route(0xe, 0x78 | kEdge);
  window();
  expect("  has forgotten its edge", ordered, 0);
}

static void levels(void) {
  ordered = trigger_modes = 0;
  route(0xe, 0x79 | kLevel);
  set_line(0xe, 1);
  expect("remote IRR", ioapic_read(0x10 + 2 * 0xe) & kRemoteIrr, kRemoteIrr);
  window();
  window();
  window();
  expect("a level comes again until it falls", ordered, 3);
  expect("  with the trigger mode set", trigger_modes, 7);
  expect("  then remote IRR is clear", ioapic_read(0x10 + 2 * 0xe) & kRemoteIrr, 0);
  ordered = 3; /* the handler leaves the line alone */
  route(0xe, 0x79 | kLevel | kMasked);
  set_line(0xe, 1);
  window();
  expect("a masked level", ordered, 3);
  route(0xe, 0x79 | kLevel);
  set_line(0xe, 0);
  window();
  expect("  comes once it is unmasked", ordered, 4);
}

u32 main(void) {
  base = rdmsr(kBase) & ~(u64)kOn;
  if (cpuid_has(1, 2, 21)) modes();
  addresses();
  apic_write(0xf0, 0x1ff);
  nmis();
  timer();
  edges();
  levels();
  return report();
}
