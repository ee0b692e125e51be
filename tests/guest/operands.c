/* Instructions whose operand is a device's register: each access must reach the device with the operand's bytes and no others.
   The device is pc-testdev's 64 KiB of storage at 0xff000000, and its 32-bit register at ports 0xe0 to 0xe3. */
#include "guest.h"

#define DEVICE 0xff000000ull
#define VIEW 0x10000010000ull /* the device's first page, twice */
enum { kPort = 0xe0 };

static volatile u64* const device = (volatile u64*)VIEW;

#define ON(initial, a, text) \
  ({ u64 rax_ = (a); *device = (initial); \
     __asm__ volatile(text : "+a"(rax_), "+m"(*device) : "r"(device) : "rcx", "rdx", "cc", "memory"); rax_; })
#define CHECK(name, initial, a, text, wanted_rax, wanted_memory) \
  do { expect(name " result", ON(initial, a, text), wanted_rax); expect(name " memory", *device, wanted_memory); } while (0)

static void arithmetic(void) {
  CHECK("add", 0x9235, 2, "addl %%eax, (%2)", 2, 0x9237);
  CHECK("adc", 0x8400, 0x100, "stc; adcl %%eax, (%2)", 0x100, 0x8501);
  CHECK("sbb", 0x8501, 0, "stc; sbbl %%eax, (%2)", 0, 0x8500);
  CHECK("and", 0x8500, 0xfe77, "andw %%ax, (%2)", 0xfe77, 0x8400);
  CHECK("inc byte", 0xff, 0, "incb (%2)", 0, 0);
  CHECK("lock dec", 0x100000000, 0, "lock decq (%2)", 0, 0xffffffff);
  CHECK("lock not", 1234, 0, "lock notq (%2)", 0, ~1234ull);
  CHECK("neg byte", 66, 0, "lock negb (%2)", 0, 0xbe);
  CHECK("xchg byte", 0x123456789abcdef, 0xfedcba9876543210, "xchg %%al, (%2)", 0xfedcba98765432ef, 0x123456789abcd10);
  CHECK("xchg word", 0x123456789abcdef, 0xfedcba9876543210, "xchg %%ax, (%2)", 0xfedcba987654cdef, 0x123456789ab3210);
  CHECK("xchg", 0x123456789abcdef, 0xfedcba9876543210, "xchg %%eax, (%2)", 0x89abcdef, 0x123456776543210);
  CHECK("xadd byte", 0x123456789abcdef, 0xfedcba9876543210, "xadd %%al, (%2)", 0xfedcba98765432ef, 0x123456789abcdff);
  CHECK("xadd", 0x123456789abcdef, 0xfedcba9876543210, "lock xadd %%rax, (%2)", 0x123456789abcdef, ~0ull);
  CHECK("cmpxchg", 5, 5, "mov $7, %%ecx; lock cmpxchg %%rcx, (%2)", 5, 7);
  CHECK("cmpxchg that differs", 6, 5, "mov $7, %%ecx; lock cmpxchg %%rcx, (%2)", 6, 6);
  CHECK("imul", 51, 0x1234567812345678, "imulw (%2), %%ax", 0x12345678123439e8, 51);
  CHECK("imul imm8", 0x1234567812345678, 0, "imulq $51, (%2), %%rax", 0xa06d39eba06d39e8, 0x1234567812345678);
  CHECK("mul", 0x3333333333333333, 0x1111111111111111, "mulq (%2)", 0x2fc962fc962fc963, 0x3333333333333333);
  CHECK("shld", 0x12345678, 0, "mov $0xaaaaaaaa, %%edx; mov $3, %%cl; shldl %%cl, %%edx, (%2)", 0, 0x91a2b3c5);
  CHECK("cmov that is false", 0xabcdef12, 0x1234567812345678, "cmp %%eax, %%eax; cmovnel (%2), %%eax", 0x12345678, 0xabcdef12);
  CHECK("bsr", 0xc00000000000, 0, "bsrq (%2), %%rax", 47, 0xc00000000000);
  CHECK("btc", 0, 0, "btcl $33, (%2); mov $35, %%ecx; btcl %%ecx, (%2)", 0, 0x800000002);
  CHECK("pop", 0, 0x123456789abcdef, "push %%rax; popq (%2)", 0x123456789abcdef, 0x123456789abcdef);
  CHECK("push", 0x1122334455667788, 0, "pushq (%2); pop %%rax", 0x1122334455667788, 0x1122334455667788);
  CHECK("push of a word", 0x7788, 0, "pushw (%2); popw %%ax", 0x7788, 0x7788);
  CHECK("smsw stores a word", 0x12345678abcdef, read_cr0(), "smsw (%2)", read_cr0(),
        0x12345678ab0000ull | (read_cr0() & 0xffff));
}

static void strings(void) {
  static u8 text[] = "abcdefghijklmnop";
  void* at = text;
  u64 count = 16;
  __asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(kPort) : "memory");
  expect("OUTSB upwards ends with the last byte", inb(kPort), 'p');
  at = text + 15, count = 16;
  __asm__ volatile("std; rep outsb; cld" : "+S"(at), "+c"(count) : "d"(kPort) : "memory");
  expect("OUTSB downwards with the first", inb(kPort), 'a');

  outb(kPort, 0x99);
  at = (u8*)device + 4032, count = 1024; /* from one page of the device into the next */
  __asm__ volatile("rep insb" : "+D"(at), "+c"(count) : "d"(kPort) : "memory");
  expect("INSB into the device", read_byte(VIEW + 4032 + 1023), 0x99);

  static u8 same[256];
  for (u32 i = 0; i < 200; i++) same[i] = (u8)i, write_byte(VIEW + i, (u8)(i < 100 ? i : i + 1));
  at = same, count = 130;
  void* there = (void*)device;
  __asm__ volatile("repe cmpsb" : "+S"(there), "+D"(at), "+c"(count) : : "cc");
  expect("CMPSB stops behind the difference", count, 29);
  at = same, there = (void*)device, count = 16;
  __asm__ volatile("repe cmpsq" : "+S"(there), "+D"(at), "+c"(count) : : "cc");
  expect("CMPSQ too", count, 3);
  *device = 0x77665544332211;
  at = (void*)device;
  u8 zero;
  __asm__ volatile("scasq; setz %0" : "=r"(zero), "+D"(at) : "a"(0x77665544332211ull));
  expect("SCASQ", zero, 1);
}

static void vectors(void) {
  write_cr0(read_cr0() & ~6ull);
  write_cr4(read_cr4() | 0x600);
  static u32 in[4] __attribute__((aligned(16))) = {1, 2, 3, 4}, out[4] __attribute__((aligned(16)));
  __asm__ volatile("movaps %2, %%xmm0; movups %%xmm0, %0; movapd %0, %%xmm1; movdqa %%xmm1, %1"
                   : "+m"(*(volatile u32(*)[4])device), "=m"(out) : "m"(in));
  expect("MOVUPS to and MOVAPD from the device", out[3], 4);
  __asm__ volatile("fninit; movq %1, %%mm0; movq %%mm0, %0; emms" : "=m"(*device) : "m"(in));
  expect("MOVQ of MMX", *device, 0x200000001);
  *device = 0x3ff0000000000000;
  u64 sum = 0;
  __asm__ volatile("fld1; faddl %1; fstpl %0" : "=m"(sum) : "m"(*device));
  expect("FADD", sum, 0x4000000000000000);
}

static void across_pages(void) {
  write_byte(VIEW + 4095, 0x99), write_byte(VIEW + 4096, 0x77);
  expect("read across two pages of the device", *(volatile u16*)(VIEW + 4095), 0x7799);
  *(volatile u16*)(VIEW + 4095) = 0x88aa;
  expect("write, lower byte", read_byte(VIEW + 4095), 0xaa);
  expect("write, upper byte", read_byte(VIEW), 0x88);
}

static void jump_far(u64 unused) {
  (void)unused;
  __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, (%0); movw $8, 8(%0); rex64 ljmp *(%0); ud2; 1:" : : "r"(device) : "rax", "memory");
}
static void jump_noncanonical(u64 unused) {
  (void)unused;
  *device = 0x1111111111111111;
  __asm__ volatile("jmp *%0" : : "m"(*device));
}
static void load_ss_rpl3(u64 unused) {
  (void)unused;
  *device = 3;
  __asm__ volatile("mov %0, %%ss" : : "m"(*device));
}
static void lea_of_register(u64 unused) {
  (void)unused;
  __asm__ volatile(".byte 0x8d, 0xc0");
}
static void movbe_of_register(u64 unused) {
  (void)unused;
  __asm__ volatile(".byte 0x0f, 0x38, 0xf0, 0xc0");
}
static void divide(u64 unused) {
  (void)unused;
  *device = 0;
  __asm__ volatile("divq %0" : : "m"(*device), "a"(1ull), "d"(2ull));
}
static void misaligned(u64 unused) {
  (void)unused;
  __asm__ volatile("movaps %%xmm0, 8(%0)" : : "r"(device) : "memory");
}

static void transfers(void) {
  expect("far jump through the device", catch_call(jump_far, 0), kNone);
  expect("jump to an address that is not canonical", catch_call(jump_noncanonical, 0), kGP);
  *device = 0;
  __asm__ volatile("mov %0, %%ss" : : "m"(*device));
  expect("null SS with another RPL", catch_call(load_ss_rpl3, 0), kGP);
  expect("LEA of a register", catch_call(lea_of_register, 0), kUD);
  expect("MOVBE of a register", catch_call(movbe_of_register, 0), kUD);
  expect("division by zero", catch_call(divide, 0), kDE);
  expect("MOVAPS misaligned", catch_call(misaligned, 0), kGP);
}

USER_CODE_BYTES(read_gs, "mov %gs:(%rdi), %rax; int $0x80");

static void gs_base_outlives_its_selector(void) {
  RUN_USER(read_gs, 0, 0); /* maps the user pages */
  *(volatile u64*)USER_DATA = 0x5eed;
  __asm__ volatile("mov %0, %%gs" : : "r"(0x10));
  wrmsr(0xc0000101, 0x400000);
  expect("load through GS that IRET made null", RUN_USER(read_gs, USER_DATA - 0x400000, 0), 0x80);
  expect("  by the same base", last.rax, 0x5eed);
}

u32 main(void) {
  map_page(VIEW, DEVICE, kP | kW | kPCD);
  map_page(VIEW + 4096, DEVICE, kP | kW | kPCD);
  arithmetic();
  strings();
  vectors();
  across_pages();
  transfers();
  gs_base_outlives_its_selector();
  return report();
}
