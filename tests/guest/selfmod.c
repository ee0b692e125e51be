/* Code that changes: by its own stores, by another mapping, by another processor, by a page table (SDM vol. 3, 9.1.3 and 12.6). */
#include "guest.h"

#define CODE 0x1a000000000ull
#define ALIAS 0x1b000000000ull
enum { kRounds = 300 };
static u8* page;
static u64* entry;

typedef u32 (*function)(u32);

static void put(u32 at, const u8* bytes, u32 size) {
  for (u32 i = 0; i < size; i++) page[at + i] = bytes[i];
}
static void serialize(void) { __asm__ volatile("cpuid" : : "a"(0), "c"(0) : "rbx", "rdx", "memory"); }

/* mov $n, %eax; ret */
static void put_return(u32 at, u32 n) {
  const u8 code[] = {0xb8, (u8)n, (u8)(n >> 8), (u8)(n >> 16), (u8)(n >> 24), 0xc3};
  put(at, code, sizeof code);
}
static u32 call(u64 at, u32 argument) { return ((function)at)(argument); }

/* The caller stores, the callee has changed. */
static void changed_by_caller(void) {
  u32 wrong = 0;
  for (u32 i = 0; i < kRounds; i++) {
    put_return(0, i);
    serialize();
    wrong += call(CODE, 0) != i;
  }
  expect("code changed by its caller", wrong, 0);
  for (u32 i = 0; i < kRounds; i++) {
    *(volatile u32*)(ALIAS + 1) = i;
    serialize();
    wrong += call(CODE, 0) != i;
  }
  expect("code changed through another address", wrong, 0);
}

/* movl %edi, next + 1(%rip); next: mov $0, %eax; ret */
static void changed_in_its_block(void) {
  const u8 code[] = {0x89, 0x3d, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3};
  put(64, code, sizeof code);
  u32 wrong = 0;
  for (u32 i = 0; i < kRounds; i++) wrong += call(CODE + 64, i) != i;
  expect("the next instruction changed by the one before it", wrong, 0);
}

/* The same, with CPUID between store and change. */
static void changed_before_serialization(void) {
  const u8 code[] = {0x53, 0x89, 0x3d, 7, 0, 0, 0, 0x31, 0xc0, 0x0f, 0xa2, 0x5b, 0xeb, 0, 0xb8, 0, 0, 0, 0, 0xc3};
  /* push %rbx; mov %edi, 1 + next(%rip) ...: the displacement counts from offset 7 to the immediate at 15 */
  put(128, code, sizeof code);
  page[128 + 3] = 8;
  u32 wrong = 0;
  for (u32 i = 0; i < kRounds; i++) wrong += call(CODE + 128, i) != i;
  expect("an instruction changed before a serializing one", wrong, 0);
}

/* A loop that adds its own counter's value by an immediate that it rewrites: sum of 1 to n.
   xor %eax, %eax; top: mov %edi, 1f + 1(%rip); 1: add $0, %eax (05 id); dec %edi; jnz top; ret */
static void loop_that_changes_itself(void) {
  const u8 code[] = {0x31, 0xc0, 0x89, 0x3d, 1, 0, 0, 0, 0x05, 0, 0, 0, 0, 0xff, 0xcf, 0x75, 0xf1, 0xc3};
  put(256, code, sizeof code);
  expect("a loop that changes itself", call(CODE + 256, 1000), 1000 * 1001 / 2);
}

/* An instruction whose immediate lies in the next page. */
static void across_pages(void) {
  put_return(4093, 0); /* pages are neighbours */
  u32 wrong = 0;
  for (u32 i = 0; i < kRounds; i++) {
    page[4096] = (u8)i; /* byte 2 of the immediate */
    serialize();
    wrong += call(CODE + 4093, 0) != (u32)(u8)i << 16;
  }
  expect("the second half of an instruction changed", wrong, 0);
}

/* Stores of every kind into code that has run. */
static void kinds_of_stores(void) {
  u64 at = ALIAS + 512 + 1;
  for (u32 kind = 0; kind < 7; kind++) {
    u32 wrong = 0;
    put_return(512, ~0u);
    for (u32 i = 1; i < kRounds; i++) {
      u32 source = i, old = 0;
      call(CODE + 512, 0);
      switch (kind) {
        case 0: __asm__ volatile("xchg %0, (%1)" : "+r"(source) : "r"(at) : "memory"); break;
        case 1: __asm__ volatile("lock cmpxchg %2, (%1)" : "=a"(old) : "r"(at), "r"(i), "0"(i == 1 ? ~0u : i - 1) : "memory"); break;
        case 2: __asm__ volatile("cld; rep movsb" : : "S"(&source), "D"(at), "c"(4ul) : "memory"); break;
        case 3: __asm__ volatile("stosl" : : "a"(i), "D"(at) : "memory"); break;
        case 4: __asm__ volatile("movd %0, %%xmm0; movss %%xmm0, (%1)" : : "r"(i), "r"(at) : "memory"); break;
        case 5: __asm__ volatile("lock addl $1, (%0)" : : "r"(at) : "memory"); break;
        case 6: __asm__ volatile("mov %%rsp, %%rdx; lea 8(%0), %%rsp; push %1; mov %%rdx, %%rsp" : : "r"(at), "r"(i | 0xc3ull << 32) : "rdx", "memory"); break;
      }
      serialize();
      wrong += call(CODE + 512, 0) != (kind == 5 ? i - 1 : i);
    }
    expect("a kind of store into code", wrong, 0);
  }
}

/* The same address, another page. */
static void remapped(void) {
  u8* other = new_page();
  const u8 code[] = {0xb8, 77, 0, 0, 0, 0xc3};
  for (u32 i = 0; i < sizeof code; i++) other[i] = code[i];
  put_return(0, 11);
  u32 wrong = 0;
  for (u32 i = 0; i < kRounds; i++) {
    *entry = (u64)(i & 1 ? other : page) | kP | kW;
    invlpg(CODE);
    wrong += call(CODE, 0) != (i & 1 ? 77 : 11);
  }
  *entry = (u64)page | kP | kW;
  invlpg(CODE);
  expect("another page mapped where code was", wrong, 0);
}

static u64 ticks(void) {
  u32 low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (u64)high << 32 | low;
}

/* A counter in the code's own page: add $1, counter(%rip); dec %edi; jnz. Must not take for ever; the TSC counts nanoseconds or
   less. */
static void data_beside_code(void) {
  const u8 code[] = {0x83, 0x05, 249, 0, 0, 0, 1, 0xff, 0xcf, 0x75, 0xf5, 0xc3};
  put(1024, code, sizeof code);
  *(volatile u32*)(page + 1280) = 0;
  u64 start = ticks();
  call(CODE + 1024, 100000);
  u64 spent = ticks() - start;
  expect("a counter beside the code that counts", *(volatile u32*)(page + 1280), 100000);
  expect("  in bounded time", spent < 100000 * 200000ull, 1);
}

static volatile u32 ap_alive, running, ap_wrong, ap_last, wanted;

void ap_main(void) {
  load_idt();
  apic_write(0xf0, 0x1ff);
  ap_alive = 1;
  while (!running) __asm__ volatile("pause");
  __asm__ volatile("sti");
  while (running) { /* old code or new, nothing else */
    u32 got = call(CODE + 2048, 0);
    if (got != 0x11111111 && got != 0x22222222) ap_wrong++;
    ap_last = got;
  }
  __asm__ volatile("cli");
  ap_alive = 2;
}

/* The other processor runs the code all the time; an interrupt there (IRET serializes) makes it see the change. */
static void changed_by_other_processor(void) {
  put_return(2048, 0x11111111);
  count_vector(0x53, 1);
  start_ap();
  while (!ap_alive) __asm__ volatile("pause");
  running = 1;
  u32 stale = 0;
  for (u32 i = 0; i < 200; i++) {
    u32 value = i & 1 ? 0x11111111 : 0x22222222, before = counts[0x53];
    __atomic_store_n((u32*)(page + 2049), value, __ATOMIC_SEQ_CST);
    apic_write(0x310, 1u << 24), apic_write(0x300, 0x4053);
    while (counts[0x53] == before) __asm__ volatile("pause");
    ap_last = 0;
    while (!ap_last) __asm__ volatile("pause");
    ap_last = 0; /* what was on its way when the interrupt came */
    while (!ap_last) __asm__ volatile("pause");
    stale += ap_last != value;
  }
  running = 0;
  while (ap_alive != 2) __asm__ volatile("pause");
  expect("code changed by another processor: nothing in between", ap_wrong, 0);
  expect("  the new code after an interrupt", stale, 0);
}

u32 main(void) {
  write_cr4(read_cr4() | 1 << 9);
  page = new_page();
  u8* next = new_page();
  entry = map_page(CODE, (u64)page, kP | kW);
  map_page(CODE + 4096, (u64)next, kP | kW);
  map_page(ALIAS, (u64)page, kP | kW);
  changed_by_caller();
  changed_in_its_block();
  changed_before_serialization();
  loop_that_changes_itself();
  across_pages();
  kinds_of_stores();
  remapped();
  data_beside_code();
  changed_by_other_processor();
  return report();
}
