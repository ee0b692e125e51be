// A hostile driver before the small devices: entropy, balloon with every feature, keyboard and tablet. The first byte chooses
// the device; each step is a byte for the queue and the shape, then addresses and bytes of the chain.
#include <fcntl.h>

#include "devices/input/virtio_input.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/test_driver.h"
#include "display/input.h"
#include "fuzz_input.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::devices;
using fuzz::loop;

constexpr u64 kRam = 256 * kKiB;

void add_chain(fuzz::Input& in, TestGuest& guest, TestQueue& queue, u8 shape) {
  const auto bytes = in.bytes(shape >> 4);
  const GuestAddr anywhere = in.word() * u64{7};
  std::vector<TestBuffer> chain;
  if (!bytes.empty()) chain.push_back({guest.put(bytes), static_cast<u32>(bytes.size()), false});
  chain.push_back({anywhere, in.byte(), (shape & 8) != 0});
  queue.add(chain, shape & 4);
}

void drive(fuzz::Input& in, TestGuest& guest, VirtioDevice& device, u16 queues, const std::function<void(u8)>& poke) {
  TestDriver driver(guest, device);
  driver.start(device.features() & ~virtio::kRingFeatures, 16);
  for (int step = 0; step < 100 && !in.empty(); ++step) {
    const u8 shape = in.byte();
    const u16 queue = static_cast<u16>((shape & 3) % queues);
    add_chain(in, guest, driver.queue(queue), shape);
    driver.kick(queue);
    device.config_write(in.byte() % 16, in.bytes(4));
    poke(shape);
    fuzz::settle();
    while (driver.queue(queue).take_used()) {
    }
  }
  driver.stop();
}

void run_rng(fuzz::Input& in, TestGuest& guest) {
  VirtioRng rng({Fd(::open("/dev/zero", O_RDONLY | O_CLOEXEC)), 4096, 1'000'000}, loop(), guest.space());
  drive(in, guest, rng, 1, [](u8) {});
}

void run_balloon(fuzz::Input& in, TestGuest& guest) {
  VirtioBalloon balloon({.ram_bytes = kRam, .deflate_on_oom = true, .free_page_reporting = true, .on_change = [](u64) {}}, loop(), guest.space());
  drive(in, guest, balloon, 4, [&](u8 shape) {
    balloon.set_target(shape * 4096u);
    (void)balloon.statistics();
  });
}

void run_input(fuzz::Input& in, TestGuest& guest, VirtioInputKind kind) {
  display::InputRouter router;
  VirtioInput input(kind, "serial", loop(), guest.space(), router);
  drive(in, guest, input, 2, [&](u8 shape) {
    (void)router.key(shape, shape & 1);
    (void)router.point({.x = shape * 100, .y = 5, .buttons = shape});
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  TestGuest guest(kRam);
  switch (in.byte() & 3) {
    case 0: run_rng(in, guest); break;
    case 1: run_balloon(in, guest); break;
    case 2: run_input(in, guest, VirtioInputKind::Keyboard); break;
    default: run_input(in, guest, VirtioInputKind::Tablet); break;
  }
  return 0;
}
