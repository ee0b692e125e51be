// An NVMe driver that writes anything into registers, queues and lists. The first byte chooses between that and restoring the rest
// as saved state; then come 10 bytes a step.
#include <cstring>

#include "base/endian.h"
#include "block/node.h"
#include "devices/pci/fake_vm.h"
#include "devices/storage/nvme.h"
#include "devices/virtio/test_driver.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::devices;
using fuzz::loop;
using fuzz::settle;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  TestGuest guest(64 * kKiB);
  FakeVm vm;
  auto node = block::make_null_node(loop(), {.size = 64 * kKiB});
  auto nvme = MUST(Nvme::create(vm, {.io_queues = 4}, loop(), guest.space()));
  nvme->io().set_node(node.get());
  memory::BusDevice& registers = *nvme->function().bar(0).device;
  if (data[0] & 1) {
    Archive archive(std::span<const u8>(data + 1, size - 1));
    nvme->visit(archive);
    nvme->resume();
    settle();
    return 0;
  }
  registers.bus_write(0x24, 15 | 15 << 16, 4);
  registers.bus_write(0x28, 0x1000, 8);
  registers.bus_write(0x30, 0x2000, 8);
  registers.bus_write(0x14, 1, 4);
  for (++data, --size; size >= 10; data += 10, size -= 10) {
    const u16 place = load_le<u16>(data);
    if (data[0] & 1) std::memcpy(guest.at(place & 0xfff8), data + 2, 8);
    else if (data[0] & 2) registers.bus_write(0x1000 + (place >> 8 & 0x1c), load_le<u16>(data + 2) & 15, 4);
    else if (data[0] & 4) registers.bus_read(place & 0x3ffc, 4);
    else registers.bus_write(place >> 8 & 0x3c, load_le<u32>(data + 2), 4);
    settle();
  }
  return 0;
}
