/* Ports, PCI and virtio (modern, split ring) for bare-metal benchmark guests. One device, polled, no interrupts. */
#pragma once
#include <stddef.h>
#include <stdint.h>

static inline void outb(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void outl(uint16_t port, uint32_t v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline uint8_t inb(uint16_t port) {
  uint8_t v;
  __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
  return v;
}
static inline uint32_t inl(uint16_t port) {
  uint32_t v;
  __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
  return v;
}
static inline void barrier(void) { __asm__ volatile("mfence" : : : "memory"); }

#ifndef CONSOLE_PORT
#define CONSOLE_PORT 0xe9
#endif
/* Text for the host, on the debug console, or the serial port. */
static void print(const char* text) {
  while (*text) outb(CONSOLE_PORT, (uint8_t)*text++);
}
static void print_u32(uint32_t v) {
  char digits[11];
  int i = 10;
  digits[i] = 0;
  do digits[--i] = (char)('0' + v % 10);
  while (v /= 10);
  print(digits + i);
}

static uint32_t pci_read(uint32_t slot, uint32_t reg) {
  outl(0xcf8, 0x80000000u | slot << 11 | (reg & 0xfc));
  return inl(0xcfc) >> (8 * (reg & 3));
}
static void pci_write(uint32_t slot, uint32_t reg, uint32_t v) {
  outl(0xcf8, 0x80000000u | slot << 11 | (reg & 0xfc));
  outl(0xcfc, v);
}

struct desc { uint64_t addr; uint32_t len; uint16_t flags, next; };
struct avail { uint16_t flags, idx, ring[256], event; };
struct used_elem { uint32_t id, len; };
struct used { uint16_t flags, idx; struct used_elem ring[256]; uint16_t event; };
#define QUEUE_SIZE 256

struct queue {
  struct desc desc[QUEUE_SIZE] __attribute__((aligned(4096)));
  struct avail avail __attribute__((aligned(4096)));
  struct used used __attribute__((aligned(4096)));
  volatile uint16_t* doorbell;
  uint16_t seen;
};

struct device {
  uint32_t slot;
  volatile uint8_t *common, *notify, *config;
  uint32_t notify_multiplier;
};

/* Gives the BARs addresses if no firmware has, and turns memory decoding and bus mastering on. */
static void pci_enable(uint32_t slot) {
  static uint32_t next = 0xf0000000;
  for (uint32_t bar = 0; bar < 6; bar++) {
    uint32_t reg = 0x10 + 4 * bar, old = pci_read(slot, reg);
    if (old & 1) continue;
    pci_write(slot, reg, ~0u);
    uint32_t size = ~(pci_read(slot, reg) & ~15u) + 1;
    if (size) {
      next = (next + size - 1) & ~(size - 1);
      pci_write(slot, reg, next);
      next += size;
    }
    if ((old & 6) == 4) pci_write(slot, 0x10 + 4 * ++bar, 0);
  }
  pci_write(slot, 4, pci_read(slot, 4) | 6);
}

static volatile uint8_t* capability_address(uint32_t slot, uint32_t cap) {
  uint32_t bar = pci_read(slot, cap + 4) & 0xff;
  return (volatile uint8_t*)((pci_read(slot, 0x10 + 4 * bar) & ~15u) + pci_read(slot, cap + 8));
}

/* Finds the modern virtio device with PCI device id 0x1040 + type (or the transitional id) and negotiates `features` plus
   VERSION_1. */
static int virtio_find(struct device* d, uint32_t type, uint32_t transitional, uint32_t features) {
  for (d->slot = 0; d->slot < 32; d->slot++) {
    uint32_t id = pci_read(d->slot, 0);
    if (id == (0x10401af4u + (type << 16)) || id == (transitional << 16 | 0x1af4)) break;
  }
  if (d->slot == 32) return 0;
  pci_enable(d->slot);
  for (uint32_t cap = pci_read(d->slot, 0x34) & 0xfc; cap; cap = pci_read(d->slot, cap + 1) & 0xfc) {
    if ((pci_read(d->slot, cap) & 0xff) != 9) continue;
    uint32_t kind = pci_read(d->slot, cap + 3) & 0xff;
    if (kind == 1) d->common = capability_address(d->slot, cap);
    if (kind == 2) d->notify = capability_address(d->slot, cap), d->notify_multiplier = pci_read(d->slot, cap + 16);
    if (kind == 4) d->config = capability_address(d->slot, cap);
  }
  volatile uint8_t* c = d->common;
  c[20] = 0;
  while (c[20]) {}
  c[20] = 1;
  c[20] = 3;
  *(volatile uint32_t*)(c + 8) = 0;
  *(volatile uint32_t*)(c + 12) = features;
  *(volatile uint32_t*)(c + 8) = 1;
  *(volatile uint32_t*)(c + 12) = 1; /* VERSION_1 */
  c[20] = 11;
  return (c[20] & 8) != 0;
}

static void virtio_queue(struct device* d, struct queue* q, uint16_t index) {
  volatile uint8_t* c = d->common;
  *(volatile uint16_t*)(c + 22) = index;
  *(volatile uint16_t*)(c + 24) = QUEUE_SIZE;
  *(volatile uint32_t*)(c + 32) = (uint32_t)q->desc, *(volatile uint32_t*)(c + 36) = 0;
  *(volatile uint32_t*)(c + 40) = (uint32_t)&q->avail, *(volatile uint32_t*)(c + 44) = 0;
  *(volatile uint32_t*)(c + 48) = (uint32_t)&q->used, *(volatile uint32_t*)(c + 52) = 0;
  q->doorbell = (volatile uint16_t*)(d->notify + *(volatile uint16_t*)(c + 30) * d->notify_multiplier);
  q->avail.flags = 1; /* no interrupts: we poll */
  *(volatile uint16_t*)(c + 28) = 1;
}

static void queue_add(struct queue* q, uint16_t head) {
  q->avail.ring[q->avail.idx % QUEUE_SIZE] = head;
  __asm__ volatile("" : : : "memory");
  q->avail.idx++;
}
static void queue_kick(struct queue* q, uint16_t index) {
  barrier();
  if (!(*(volatile uint16_t*)&q->used.flags & 1)) *q->doorbell = index;
}
/* The next used head, or -1. */
static int queue_poll(struct queue* q) {
  if (*(volatile uint16_t*)&q->used.idx == q->seen) return -1;
  __asm__ volatile("" : : : "memory");
  return (int)q->used.ring[q->seen++ % QUEUE_SIZE].id;
}
static int queue_wait(struct queue* q) {
  int head;
  while ((head = queue_poll(q)) < 0) __asm__ volatile("pause");
  return head;
}
