// Control messages, output and receive buffers of a hostile driver for a console with two ports.
// Input: a byte of options, then steps.
#include "devices/virtio/console.h"
#include "devices/virtio/test_driver.h"
#include "fuzz_input.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::devices;
using fuzz::loop;

constexpr u64 kRam = 256 * kKiB;

/// Takes little at a time, and types back what it got.
struct Echo final : CharBackend {
  void attach(Frontend new_frontend) override { frontend = std::move(new_frontend); }
  void detach() override { frontend = {}; }
  size_t write(std::span<const u8> data) override {
    size_t taken = std::min<size_t>(data.size(), 7);
    if (frontend.can_receive() >= taken) frontend.receive(data.first(taken));
    return taken;
  }
  void accept_input() override {}
  const std::string& id() const override { return name; }
  std::string describe() const override { return "echo"; }
  Frontend frontend;
  std::string name = "echo";
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  u8 options = in.byte();
  TestGuest guest(kRam);
  Echo chars[2];
  auto device = std::make_unique<VirtioConsole>(3, loop(), guest.space());
  chars[0].attach(MUST(device->add({.backend = &chars[0]})).frontend);
  chars[1].attach(MUST(device->add({.console = false, .name = "port", .backend = &chars[1]})).frontend);
  {
    TestDriver driver(guest, *device);
    u64 features = device->features();
    if (!(options & 1)) features &= ~virtio::kFeaturePacked;
    if (!(options & 2)) features &= ~u64{2};  // no multiport
    driver.start(features, 16);
    for (int step = 0; step < 48 && !in.empty(); ++step) {
      u8 shape = in.byte();
      u16 index = shape % 6;
      GuestAddr at = guest.allocate(64);
      auto content = in.bytes(shape >> 4);
      std::copy(content.begin(), content.end(), guest.at(at));
      u32 bytes = index == 3 ? 8 : in.byte() % 65;
      driver.queue(index).add({{at, bytes, index % 2 == 0}});
      driver.kick(index);
      if (shape & 8) chars[index & 1].frontend.writable();
      if (shape == 0x77) static_cast<void>(device->add({.name = "late"}));
      if (shape == 0x78) device->remove(2);
      u32 letter = shape;
      if (shape & 0x80) device->config_write(in.byte() % 16, {reinterpret_cast<const u8*>(&letter), 4});
    }
    driver.stop();
  }
  loop().run_once(0);
  return 0;
}
