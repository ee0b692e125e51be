/* Says that the first instruction has run. */
#include "lib.h"

int main(void) {
  print("first\n");
  for (;;) __asm__ volatile("hlt");
}
