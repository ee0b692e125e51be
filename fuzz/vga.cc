// The registers, the legacy window and the screen memory of a VGA. The first byte chooses between accesses of 5 bytes each
// (what, place, value) and restoring the rest as saved state; the picture and the text are drawn now and then.
#include "devices/display/vga.h"
#include "fuzz_input.h"

namespace {

using namespace atl;
using namespace atl::devices;

void look(Vga& vga) {
  display::Surface surface;
  vga.draw(surface);
  (void)vga.text();
}

void access(Vga& vga, fuzz::Input& in) {
  const u8 what = in.byte();
  const u16 place = in.word(), value = in.word();
  const unsigned width = 1u << (what >> 4 & 1);
  const auto at = [&](memory::BusDevice& registers, u64 size) {
    if (what & 8) (void)registers.bus_read(place % (size - 1), width);
    else registers.bus_write(place % (size - 1), value, width);
  };
  switch (what & 7) {
    case 0:
    case 1: at(vga.ports(), Vga::kPorts); break;
    case 2: vga.vbe_ports().bus_write(0, place % 16, 2); break;
    case 3: vga.vbe_ports().bus_write(1, value, 2); break;
    case 4: at(vga.window(), Vga::kWindowBytes); break;
    case 5: at(*vga.function().bar(2).device, 0x1000); break;
    case 6: vga.window().bus_write(place * 2u, value, 2); break;
    default: look(vga); break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  auto vga = Vga::create({.memory_bytes = kMiB});
  if (!vga) return 0;
  if (in.byte() & 1) {
    Archive archive(in.rest());
    (*vga)->visit(archive);
  } else {
    for (int step = 0; step < 400 && !in.empty(); ++step) access(**vga, in);
  }
  look(**vga);
  return 0;
}
