/* COUNT port reads of a device model that does nothing much: the RTC's register D. (Writes to the index port would be
   coalesced by KVM.) */
#include "lib.h"

int main(void) {
  print("start\n");
  outb(0x70, 0x0d);
  for (uint32_t i = 0; i < COUNT; i++) inb(0x71);
  print("end\n");
  for (;;) __asm__ volatile("hlt");
}
