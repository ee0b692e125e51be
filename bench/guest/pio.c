/* COUNT port writes to a device model that does nothing much (the RTC's index port). */
#include "lib.h"

int main(void) {
  print("start\n");
  for (uint32_t i = 0; i < COUNT; i++) outb(0x70, 0x0d);
  print("end\n");
  for (;;) __asm__ volatile("hlt");
}
