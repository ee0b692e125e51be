/* Sends FRAMES UDP datagrams of 1,400 bytes to port 19009 of the gateway, a batch at a time. */
#include "lib.h"

#define BATCH 64
static struct queue rx, tx;
static uint8_t frames[BATCH][2048] __attribute__((aligned(4096)));
static uint8_t rx_data[QUEUE_SIZE][2048];

static uint32_t sum16(const uint8_t* p, uint32_t n) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < n; i += 2) sum += (uint32_t)p[i] << 8 | p[i + 1];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/* virtio-net header (12 bytes), Ethernet, IPv4 10.0.2.15 -> 10.0.2.2, UDP 5000 -> 19009 */
static uint32_t make_frame(uint8_t* f) {
  static const uint8_t head[] = {0x52, 0x55, 10, 0, 2, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 0,
                                 0x45, 0, 1428 >> 8, 1428 & 255, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2,
                                 5000 >> 8, 5000 & 255, 19009 >> 8, 19009 & 255, 1408 >> 8, 1408 & 255, 0, 0};
  for (uint32_t i = 0; i < sizeof head; i++) f[12 + i] = head[i];
  uint32_t sum = sum16(f + 12 + 14, 20);
  f[12 + 24] = (uint8_t)(sum >> 8), f[12 + 25] = (uint8_t)sum;
  return 12 + 14 + 1428;
}

int main(void) {
  struct device d = {0};
  if (!virtio_find(&d, 1, 0x1000, 0)) return print("no NIC\n"), 1;
  virtio_queue(&d, &rx, 0);
  virtio_queue(&d, &tx, 1);
  d.common[20] = 15;
  for (uint32_t i = 0; i < QUEUE_SIZE; i++) {
    rx.desc[i] = (struct desc){(uint32_t)rx_data[i], 2048, 2, 0};
    queue_add(&rx, (uint16_t)i);
  }
  queue_kick(&rx, 0);
  print("start\n");
  uint32_t sent = 0;
  for (uint32_t i = 0; i < BATCH; i++, sent++) {
    tx.desc[i] = (struct desc){(uint32_t)frames[i], make_frame(frames[i]), 0, 0};
    queue_add(&tx, (uint16_t)i);
  }
  queue_kick(&tx, 1);
  for (uint32_t done = 0; done < FRAMES;) {
    uint32_t batch = 0;
    for (int head = queue_wait(&tx); head >= 0; head = queue_poll(&tx)) {
      done++;
      if (sent < FRAMES) queue_add(&tx, (uint16_t)head), sent++, batch++;
    }
    for (int head = queue_poll(&rx); head >= 0; head = queue_poll(&rx)) queue_add(&rx, (uint16_t)head);
    if (batch) queue_kick(&tx, 1);
  }
  print("end\n");
  for (;;) __asm__ volatile("hlt");
}
