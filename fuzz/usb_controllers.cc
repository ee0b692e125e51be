// Any register accesses to the USB controllers, over guest memory of any contents, with devices that come, tell and go.
// Input: the model, what memory holds, then records of a selector byte, an address and a value.
#include "devices/nic/fake_backend.h"
#include "devices/usb/ehci.h"
#include "devices/usb/hid.h"
#include "devices/usb/hub.h"
#include "devices/usb/uhci.h"
#include "devices/usb/xhci.h"
#include "fuzz_input.h"

namespace {

using namespace atl;
using namespace atl::devices;

std::unique_ptr<PciDevice> make(u8 model, CardBench& bench, const std::shared_ptr<usb::Bus>& bus) {
  if (model % 3 == 0) return std::make_unique<usb::Uhci>(*usb::Uhci::find_model("piix3-usb-uhci"), bench.memory, bench.clock, bus, std::nullopt);
  if (model % 3 == 1) return std::make_unique<usb::Ehci>(*usb::Ehci::find_model("usb-ehci"), bench.memory, bench.clock, bus);
  return MUST(usb::Xhci::create({.usb2_ports = 2, .usb3_ports = 1}, {bench.vm, bench.memory, bench.clock}, bus));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  CardBench bench;
  display::InputRouter router;
  const u8 model = in.byte();
  auto bus = std::make_shared<usb::Bus>("usb.0", model % 3 == 1 ? usb::Ehci::kPorts : 2);
  auto controller = make(model, bench, bus);
  std::unique_ptr<usb::UsbDevice> tablet = std::make_unique<usb::Pointer>(usb::Pointer::Mode::Tablet, router, usb::HidOptions{});
  std::unique_ptr<usb::UsbDevice> hub = std::make_unique<usb::Hub>(4);
  (void)bus->plug(tablet, "tablet", "1");
  if (tablet) tablet->leaving();
  if (bus->plug(hub, "hub", "2")) {
    std::unique_ptr<usb::UsbDevice> keyboard = std::make_unique<usb::Keyboard>(router, usb::HidOptions{});
    if (!bus->plug(keyboard, "keyboard", "2.1")) keyboard->leaving();
  }
  bench.plug(*controller);
  const bool uhci = model % 3 == 0;
  const u64 base = uhci ? bench.bus->config_read({0, 0}, 0x20, 4) & ~3u : bench.bus->config_read({0, 0}, 0x10, 4) & ~15u;
  const u64 window = uhci ? 32 : model % 3 == 1 ? 0x100 : 0x4000;
  memory::BusView& view = uhci ? bench.port_view : bench.view;
  const auto ram = in.bytes(in.word() % 4096);
  for (u64 at = 0; !ram.empty() && at + ram.size() < 0x10000; at += ram.size()) std::copy(ram.begin(), ram.end(), bench.data + at);
  for (int step = 0; step < 100 && !in.empty(); ++step) {
    const u8 selector = in.byte();
    switch (selector & 7) {
      case 0:
      case 1:
      case 2: view.write(base + in.word() % (window - 8), in.dword(), 1u << (selector >> 4 & 1) << 1); break;
      case 3: view.read(base + in.word() % (window - 8), 4); break;
      case 4: (void)router.key(in.byte(), selector & 8); break;
      case 5: (void)router.point({.x = in.word(), .y = in.word(), .wheel = 0, .buttons = in.byte()}); break;
      case 6: bench.clock.advance(in.word() * u64{1000}); break;
      case 7:
        if (usb::UsbDevice* device = bus->find_id(selector & 8 ? "hub" : "tablet")) bus->unplug(*device);
        break;
    }
  }
  bench.unplug();
  return 0;
}
