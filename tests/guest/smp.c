/* Two processors: INIT and SIPI, locked operations, IPIs, TLB shootdown, code written by the other processor. */
#include "guest.h"

enum { kRounds = 20000 };
static volatile u32 ap_alive, step, ap_seen, ap_result;
static volatile u64 counter, pair[2] __attribute__((aligned(16)));
static u32 lock;
static volatile u64 guarded;

static void add_locked(void) {
  for (int i = 0; i < kRounds; i++) __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
}

static void add_under_lock(void) {
  for (int i = 0; i < kRounds; i++) {
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE)) __asm__ volatile("pause");
    guarded = guarded + 1;
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
  }
}

/* A counter of 128 bits whose halves are always equal. */
static void add_pair(void) {
  for (int i = 0; i < kRounds; i++) {
    u64 low = pair[0], high = pair[1];
    u8 done;
    do __asm__ volatile("lea 1(%%rax), %%rbx; lea 1(%%rdx), %%rcx; lock cmpxchg16b %1; setz %0"
                        : "=q"(done), "+m"(*(volatile u64(*)[2])pair), "+a"(low), "+d"(high) : : "rbx", "rcx", "memory");
    while (!done);
  }
}

#define SHARED 0x1a000000000ull
static u8 code[4096] __attribute__((aligned(4096)));

static void go_to(u32 next) {
  step = next;
  while (ap_seen != next) __asm__ volatile("pause");
}

void ap_main(void) {
  load_idt();
  apic_write(0xf0, 0x1ff);
  ap_alive = 1;
  for (u32 mine = 1;; mine++) {
    while (step < mine) __asm__ volatile("pause");
    if (mine == 1) add_locked();
    if (mine == 2) add_under_lock();
    if (mine == 3) add_pair();
    if (mine == 4) apic_write(0x310, 0), apic_write(0x300, 0x4051);
    if (mine == 5 || mine == 6) ap_result = read_byte(SHARED);
    if (mine == 6) break;
    if (mine == 5) {
      ap_seen = mine;
      __asm__ volatile("sti; hlt; cli" : : : "memory"); /* the shootdown's IPI */
      invlpg(SHARED);
      continue;
    }
    ap_seen = mine;
  }
  ap_seen = 6;
  while (step < 7) __asm__ volatile("pause");
  u32 sum = 0;
  while (step < 8) { /* runs code that the other processor rewrites */
    u32 got = ((u32(*)(void))code)();
    if (got != 1 && got != 2) sum |= 1;
    if (got == 2) sum |= 2;
    ap_seen = 7;
  }
  __asm__ volatile("cpuid" : : "a"(0), "c"(0) : "rbx", "rdx", "memory");
  ap_result = sum | ((u32(*)(void))code)() << 8;
  ap_seen = 8;
}

u32 main(void) {
  count_vector(0x51, 1);
  count_vector(0x52, 1);
  start_ap();
  while (!ap_alive) __asm__ volatile("pause");
  step = 1;
  add_locked();
  while (ap_seen != 1) __asm__ volatile("pause");
  expect("locked additions of both", counter, 2 * kRounds);
  step = 2;
  add_under_lock();
  while (ap_seen != 2) __asm__ volatile("pause");
  expect("additions under a lock", guarded, 2 * kRounds);
  step = 3;
  add_pair();
  while (ap_seen != 3) __asm__ volatile("pause");
  expect("CMPXCHG16B additions, low half", pair[0], 2 * kRounds);
  expect("CMPXCHG16B additions, high half", pair[1], 2 * kRounds);
  step = 4;
  while (!counts[0x51]) __asm__ volatile("sti; hlt; cli" : : : "memory");
  while (ap_seen != 4) __asm__ volatile("pause");
  expect("IPI from the other processor wakes HLT", counts[0x51], 1);

  u8 *first = new_page(), *second = new_page();
  first[0] = 11, second[0] = 22;
  u64* entry = map_page(SHARED, (u64)first, kP | kW);
  go_to(5);
  expect("page seen by the other processor", ap_result, 11);
  *entry = (u64)second | kP | kW;
  invlpg(SHARED);
  while (!counts[0x52]) apic_write(0x310, 1u << 24), apic_write(0x300, 0x4052);
  go_to(6);
  expect("page after the shootdown", ap_result, 22);

  code[0] = 0xb8, code[1] = 1, code[2] = code[3] = code[4] = 0, code[5] = 0xc3; /* mov $1, %eax; ret */
  __asm__ volatile("" : : : "memory");
  go_to(7);
  __atomic_store_n(&code[1], 2, __ATOMIC_SEQ_CST);
  for (volatile u32 i = 0; i < 200000; i++) {}
  go_to(8);
  expect("code written by the other processor: no torn result", ap_result & 1, 0);
  expect("  the new code runs after a serializing instruction", ap_result >> 8, 2);
  return report();
}
