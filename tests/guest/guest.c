/* The library behind guest.h. */
#include "guest.h"

struct gate { u16 low; u16 selector; u8 ist, type; u16 middle; u32 high, reserved; };

extern const u8 stubs[];
void catch_return(u32 vector) __attribute__((noreturn));

static struct gate idt[256];
struct tss tss;
struct frame last;
u64 last_cr2;
volatile u32 counts[256];
static u8 counted[256];
static void (*handlers[256])(struct frame*);
static u8 interrupt_stack[16384] __attribute__((aligned(16)));
static u32 failures, checks;

void print(const char* text) {
  while (*text) outb(0x402, (u8)*text++);
}

void print_hex(u64 value) {
  char text[19] = "0x";
  for (int i = 0; i < 16; i++) text[2 + i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
  text[18] = 0;
  print(text);
}

void expect(const char* what, u64 got, u64 wanted) {
  checks++;
  if (got == wanted) return;
  failures++;
  print("FAIL "), print(what), print(": got "), print_hex(got), print(", wanted "), print_hex(wanted), print("\n");
}

u32 report(void) {
  print(failures ? "failed " : "passed "), print_hex(checks), print(" checks\n");
  return failures ? 2 : 1;
}

void set_gate(u8 vector, u8 dpl, u8 ist, int trap) {
  u64 at = (u64)stubs + 16u * vector;
  idt[vector] = (struct gate){(u16)at, 8, ist, (u8)(0x80 | dpl << 5 | (trap ? 15 : 14)), (u16)(at >> 16), (u32)(at >> 32), 0};
}

void count_vector(u8 vector, int apic) { counted[vector] = (u8)(1 + apic); }

void handle_vector(u8 vector, void (*handler)(struct frame*)) { handlers[vector] = handler; }

void on_interrupt(struct frame* frame) {
  u8 vector = (u8)frame->vector;
  if (handlers[vector]) {
    handlers[vector](frame);
    return;
  }
  if (counted[vector]) {
    counts[vector]++;
    if (counted[vector] == 2) apic_write(0xb0, 0);
    return;
  }
  last = *frame;
  last_cr2 = read_cr2();
  catch_return(vector);
}

void load_idt(void) {
  struct { u16 limit; u64 base; } __attribute__((packed)) pointer = {sizeof idt - 1, (u64)idt};
  __asm__ volatile("lidt %0" : : "m"(pointer));
}

void setup_interrupts(void) {
  for (u32 v = 0; v < 256; v++) set_gate((u8)v, 0, 0, 0);
  set_gate(0x80, 3, 0, 0);
  load_idt();
  tss.rsp[0] = (u64)interrupt_stack + sizeof interrupt_stack;
  tss.io_map = offsetof(struct tss, io_bitmap);
  for (u32 i = 0; i < sizeof tss.io_bitmap; i++) tss.io_bitmap[i] = 0xff;
  u64 base = (u64)&tss, limit = sizeof tss - 1;
  gdt[6] = (limit & 0xffff) | (base & 0xffffff) << 16 | 0x89ull << 40 | (limit >> 16 & 15) << 48 | (base >> 24 & 0xff) << 56;
  gdt[7] = base >> 32;
  __asm__ volatile("ltr %w0" : : "r"(0x30));
  outb(0x21, 0xff), outb(0xa1, 0xff); /* both PICs masked */
}

static void wait_a_moment(void) {
  for (volatile u32 i = 0; i < 20000; i++) {}
}

void start_ap(void) {
  extern const u8 ap_start[], ap_start_end[];
  for (size_t i = 0; i < (size_t)(ap_start_end - ap_start); i++) ((volatile u8*)0x8000)[i] = ap_start[i];
  apic_write(0xf0, 0x1ff);
  apic_write(0x310, 1u << 24);
  apic_write(0x300, 0x4500); /* INIT */
  wait_a_moment();
  apic_write(0x310, 1u << 24);
  apic_write(0x300, 0x4608); /* SIPI, vector 8 */
}

void* new_page(void) {
  static u64 next = 0x800000;
  u64* page = (u64*)next;
  next += 4096;
  for (int i = 0; i < 512; i++) page[i] = 0;
  return page;
}

static u64* table_below(u64* entry) {
  if (!(*entry & kP)) *entry = (u64)new_page() | kP | kW | kU;
  return (u64*)(*entry & 0xffffffffff000ull);
}

u64* map_page(u64 linear, u64 physical, u64 flags) {
  u64* table = table_below(&pml4[linear >> 39 & 511]);
  table = table_below(&table[linear >> 30 & 511]);
  table = table_below(&table[linear >> 21 & 511]);
  u64* entry = &table[linear >> 12 & 511];
  *entry = physical | flags;
  invlpg(linear);
  return entry;
}

static void go_user(u64 frame) { enter_user((const u64*)frame); }

u32 run_user(const void* code, size_t size, u64 rdi, u64 rsi, u64 rflags) {
  static u8 *code_page, *data_page, *stack_page;
  if (!code_page) {
    code_page = new_page(), data_page = new_page(), stack_page = new_page();
    map_page(USER_CODE, (u64)code_page, kP | kU);
    map_page(USER_DATA, (u64)data_page, kP | kU | kW);
    map_page(USER_STACK, (u64)stack_page, kP | kU | kW);
  }
  for (size_t i = 0; i < size; i++) {
    u8 byte = ((const u8*)code)[i];
    if (code_page[i] != byte) code_page[i] = byte; /* unchanged code may stay translated */
  }
  u64 frame[7] = {USER_CODE, 0x2b, rflags, USER_STACK + 4096 - 64, 0x23, rdi, rsi};
  return catch_call(go_user, (u64)frame);
}
