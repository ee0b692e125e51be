// Commands of a hostile driver through the GPU device. Input: steps of a byte for queue and shape, then the command's bytes.
#include "devices/display/virtio_gpu.h"
#include "devices/virtio/test_driver.h"
#include "fuzz_input.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::devices;
using fuzz::loop;

constexpr u64 kRam = 512 * kKiB;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr u32 kAnswer = 2048;
  fuzz::Input in(data, size);
  TestGuest guest(kRam);
  display::ScreenList screens;
  VirtioGpu device({.width = 64, .height = 64, .max_bytes = 256 * kKiB}, loop(), guest.space(), screens);
  TestDriver driver(guest, device);
  driver.start(virtio_gpu::kFeatureEdid, 16);
  const GuestAddr answer = guest.allocate(kAnswer);
  for (int step = 0; step < 64 && !in.empty(); ++step) {
    const u8 shape = in.byte();
    std::vector<u8> command(24 + shape / 2 % 64);
    for (u8& b : command) b = in.byte();
    command[1] = shape & 1 ? 3 : 1;  // the families that exist
    command[2] = command[3] = 0;
    const GuestAddr at = guest.put(command);
    driver.queue(shape & 1).add({{at, static_cast<u32>(command.size()), false}, {answer, kAnswer, true}});
    driver.kick(shape & 1);
    while (driver.queue(shape & 1).take_used()) {
    }
  }
  display::Surface surface;
  device.draw(surface);
  return 0;
}
