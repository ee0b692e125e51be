/* 4 KiB random reads from a virtio disk at a fixed queue depth (DEPTH), REQUESTS in all. */
#include "lib.h"

struct header { uint32_t type, reserved; uint64_t sector; };
static struct queue q;
static struct header headers[DEPTH];
static uint8_t data[DEPTH][4096] __attribute__((aligned(4096)));
static uint8_t status[DEPTH];
static uint32_t sectors;

static uint32_t random_u32(void) {
  static uint32_t state = 12345;
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return state;
}

static void submit(uint32_t slot) {
  headers[slot].sector = (random_u32() % (sectors / 8)) * 8;
  queue_add(&q, (uint16_t)(slot * 3));
}

int main(void) {
  struct device d = {0};
  if (!virtio_find(&d, 2, 0x1001, 0)) return print("no disk\n"), 1;
  virtio_queue(&d, &q, 0);
  d.common[20] = 15;
  sectors = *(volatile uint32_t*)d.config;
  for (uint32_t i = 0; i < DEPTH; i++) {
    q.desc[3 * i] = (struct desc){(uint32_t)&headers[i], 16, 1, (uint16_t)(3 * i + 1)};
    q.desc[3 * i + 1] = (struct desc){(uint32_t)data[i], 4096, 3, (uint16_t)(3 * i + 2)};
    q.desc[3 * i + 2] = (struct desc){(uint32_t)&status[i], 1, 2, 0};
    submit(i);
  }
  print("start\n");
  queue_kick(&q, 0);
  for (uint32_t done = 0, sent = DEPTH; done < REQUESTS;) {
    uint32_t batch = 0;
    for (int head = queue_wait(&q); head >= 0; head = queue_poll(&q)) {
      if (status[head / 3]) return print("I/O error\n"), 1;
      done++;
      if (sent < REQUESTS) submit((uint32_t)head / 3), sent++, batch++;
    }
    if (batch) queue_kick(&q, 0);
  }
  print("end\n");
  for (;;) __asm__ volatile("hlt");
}
