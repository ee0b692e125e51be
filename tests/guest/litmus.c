/* Memory ordering between two processors: what x86 forbids is never seen (SDM vol. 3, 9.2). Both processors go through an array of
   cells, each in its own time; now and then they are in the same cell at once. */
#include "guest.h"

enum { kCells = 4096, kBatches = 12 };
struct cell { volatile u32 x, y, r0, r1, s0, s1, pad[10]; };
static struct cell cells[kCells] __attribute__((aligned(64)));
static u32 turn, done;

/* SB: a store, then a load. Both loads may read 0 unless something that orders is in between. */
static void store_load(volatile u32* mine, volatile u32* other, volatile u32* result, u32 fence) {
  u32 one = 1;
  if (fence != 1) *mine = 1;
  if (fence == 0) __asm__ volatile("mfence" : : : "memory");
  if (fence == 1) __asm__ volatile("xchg %0, %1" : "+r"(one), "+m"(*mine) : : "memory");
  if (fence == 2) __asm__ volatile("lock orl $0, (%%rsp)" : : : "memory");
  *result = *other;
}

static void first(u32 test, struct cell* c) {
  switch (test) {
    case 0: case 1: case 2: store_load(&c->x, &c->y, &c->r0, test); break;
    case 3: c->x = 1, c->y = 1; break;                          /* MP */
    case 4: c->r0 = c->x, c->y = 1; break;                      /* LB */
    case 5: c->x = 1, c->r0 = c->x, c->r1 = c->y; break;        /* own stores are seen at once */
    case 6: c->x = 1, c->x = 2; break;                          /* CoRR */
  }
}
static void second(u32 test, struct cell* c) {
  switch (test) {
    case 0: case 1: case 2: store_load(&c->y, &c->x, &c->r1, test); break;
    case 3: c->r0 = c->y, c->r1 = c->x; break;
    case 4: c->r1 = c->y, c->x = 1; break;
    case 5: c->y = 1, c->s0 = c->y, c->s1 = c->x; break;
    case 6: c->r0 = c->x, c->r1 = c->x; break;
  }
}

static int is_forbidden(u32 test, const struct cell* c) {
  switch (test) {
    case 0: case 1: case 2: return c->r0 == 0 && c->r1 == 0;
    case 3: return c->r0 == 1 && c->r1 == 0;
    case 4: return c->r0 == 1 && c->r1 == 1;
    case 5: return c->r0 != 1 || c->s0 != 1;
    case 6: return c->r0 > c->r1;
  }
  return 0;
}

static const char* const kNames[] = {"SB with MFENCE", "SB with XCHG", "SB with a locked operation", "MP", "LB", "own stores", "CoRR"};
enum { kTests = sizeof kNames / sizeof *kNames };

static void wait_for(const u32* word, u32 value) {
  while (__atomic_load_n(word, __ATOMIC_SEQ_CST) < value) __asm__ volatile("pause");
}

void ap_main(void) {
  load_idt();
  for (u32 batch = 0; batch < kTests * kBatches; batch++) {
    wait_for(&turn, batch + 1);
    for (u32 i = 0; i < kCells; i++) second(batch / kBatches, &cells[i]);
    __atomic_store_n(&done, batch + 1, __ATOMIC_SEQ_CST);
  }
}

u32 main(void) {
  start_ap();
  u32 bad[kTests] = {0};
  for (u32 batch = 0; batch < kTests * kBatches; batch++) {
    for (u32 i = 0; i < kCells; i++) cells[i].x = cells[i].y = cells[i].r0 = cells[i].r1 = cells[i].s0 = cells[i].s1 = 0;
    __atomic_store_n(&turn, batch + 1, __ATOMIC_SEQ_CST);
    for (u32 i = 0; i < kCells; i++) first(batch / kBatches, &cells[i]);
    wait_for(&done, batch + 1);
    for (u32 i = 0; i < kCells; i++) bad[batch / kBatches] += is_forbidden(batch / kBatches, &cells[i]) != 0;
  }
  for (u32 test = 0; test < kTests; test++) expect(kNames[test], bad[test], 0);
  return report();
}
