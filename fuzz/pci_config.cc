// Any accesses to the configuration ports and to what they map: bridges, and a function with every kind of BAR and MSI-X.
// Input: records of a selector byte, an address and a value.
#include "base/check.h"
#include "devices/pci/bus.h"
#include "devices/pci/fake_vm.h"
#include "devices/pci/host_bridge.h"
#include "fuzz_input.h"

namespace {

using namespace atl;
using namespace atl::devices;

struct Registers final : memory::BusDevice {
  u64 bus_read(u64 offset, unsigned width) override {
    CHECK(offset + width <= 0x4000);
    return offset;
  }
  void bus_write(u64 offset, u64, unsigned width) override { CHECK(offset + width <= 0x4000); }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  memory::AddressSpace memory("memory", u64{1} << 40), ports("ports", 1 << 16);
  FakeVm vm;
  auto bus = MUST(PciBus::create({.memory = memory, .ports = ports,
                                  .set_gsi = [&](u32 gsi, bool level) { vm.gsi(gsi).set(level); }, .request_reset = [] {}}));
  MUST(memory.add({.name = "ram", .size = 4 * kMiB, .ram = MUST(memory::RamBlock::create("ram", 4 * kMiB, {}))}));
  I440fxHostBridge host(std::make_unique<Smram>(memory, 4 * kMiB));
  Piix3IsaBridge isa(*bus);
  Registers registers;
  PciFunction function("function", {.vendor = 0x1234, .device = 0x5678});
  function.set_bar(0, {.kind = PciBar::Kind::Io, .size = 0x20, .device = &registers});
  function.set_bar(2, {.kind = PciBar::Kind::Memory32, .size = 0x1000, .device = &registers});
  function.set_bar(4, {.kind = PciBar::Kind::Memory64, .size = 0x4000, .device = &registers});
  function.set_interrupt_pin(2);
  MUST(function.add_msix(vm, 4, 1));
  MUST(bus->add({0, 0}, host.function()));
  MUST(bus->add({1, 0}, isa.function()));
  MUST(bus->add({1, 2}, function));
  MUST(bus->assign_resources({.memory_base = 0xe0000000, .memory_size = 0x1000000}));
  memory::BusView port_view(ports), memory_view(memory);
  for (int step = 0; step < 400 && !in.empty(); ++step) {
    u8 selector = in.byte();
    unsigned width = 1u << (selector >> 4 & 3);
    switch (selector & 7) {
      case 0: port_view.write(0xcf8 + (in.byte() & 7), in.dword(), width); break;
      case 1: port_view.read(0xcf8 + (in.byte() & 7), width); break;
      case 2:  // a likely address, then data
        port_view.write(0xcf8, 0x80000000 | (in.word() & 0xfffc), 4);
        port_view.write(0xcfc + (selector >> 6), in.dword(), width);
        break;
      case 3: memory_view.write(0xe0000000 + in.dword() % 0x10000, in.dword(), width); break;
      case 4: memory_view.read(0xe0000000 + in.dword() % 0x10000, width); break;
      case 5: function.fire_msix(in.byte()); break;
      case 6: function.set_intx(selector & 0x80); break;
      case 7: (void)bus->describe(); break;
    }
  }
  bus->remove({1, 2});
  bus->remove({1, 0});
  bus->remove({0, 0});
  return 0;
}
