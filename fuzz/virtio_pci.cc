// Any accesses to the registers of a virtio device on PCI, with its rings in memory that the input fills.
// Input: a size and bytes for guest memory, then records of a selector byte, an offset and a value.
#include "base/check.h"
#include "devices/pci/bus.h"
#include "devices/pci/fake_vm.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/pci_transport.h"
#include "devices/virtio/test_driver.h"
#include "fuzz_input.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::devices;
using fuzz::loop;

constexpr PciAddress kPlace{3, 0};

void quiesce(VirtioPci& pci) {
  bool done = false;
  pci.quiesce([&done] { done = true; });
  for (int turn = 0; turn < 1000 && !done; ++turn) loop().run_once(0);
  CHECK(done);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  TestGuest guest(64 * kKiB);
  memory::AddressSpace ports("ports", 1 << 16);
  FakeVm vm;
  auto bus = MUST(PciBus::create({.memory = guest.space(), .ports = ports,
                                  .set_gsi = [&](u32 gsi, bool level) { vm.gsi(gsi).set(level); }, .request_reset = [] {}}));
  VirtioBalloonOptions options{.ram_bytes = guest.size(), .free_page_reporting = true};
  auto pci = MUST(VirtioPci::create(vm, std::make_unique<VirtioBalloon>(options, loop(), guest.space()),
                                    {.type = "virtio-balloon-pci", .vectors = std::nullopt}));
  MUST(bus->add(kPlace, pci->function()));
  MUST(bus->assign_resources({.memory_base = 0xe0000000, .memory_size = 0x1000000}));
  auto memory = in.bytes(in.word() % 4096);
  std::copy(memory.begin(), memory.end(), guest.at(0x1000));
  u64 base = *pci->function().bar_mapped(4), table = *pci->function().bar_mapped(1);
  memory::BusView view(guest.space());
  for (int step = 0; step < 300 && !in.empty(); ++step) {
    u8 selector = in.byte();
    unsigned width = 1u << (selector >> 4 & 3);
    switch (selector & 7) {
      case 0: view.write(base + in.byte() % 64, in.dword(), width); break;
      case 1: view.write(base + in.word() % 0x4000, in.dword(), width); break;
      case 2: view.read(base + in.word() % 0x4000, width); break;
      case 3: view.write(table + in.word() % 0x1000, in.dword(), width); break;
      case 4: bus->config_write(kPlace, in.byte(), in.dword(), width & 7); break;
      case 5: bus->config_read(kPlace, in.byte(), width & 7); break;
      case 6: loop().run_once(0); break;
      case 7: view.write(base + 0x3000 + 4 * (selector >> 4 & 3), 0, 2); break;
    }
  }
  quiesce(*pci);
  bus->remove(kPlace);
  return 0;
}
