// The registers of a floppy controller and its DMA controller. The first byte chooses between accesses of 3 bytes each and
// restoring the rest as saved state.
#include "block/node.h"
#include "devices/legacy/test_doubles.h"
#include "devices/storage/floppy.h"
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
  TestGuest guest(256 * kKiB);
  RecordingLine irq;
  auto node = block::make_null_node(loop(), {.size = 1440 * kKiB});
  IsaDma dma(guest.space());
  FloppyController fdc(loop(), dma, irq);
  auto drive = std::make_unique<FloppyDrive>(loop(), DiskIoOptions{}, false);
  drive->medium_io().set_node(node.get());
  fdc.attach(0, std::move(drive));
  if (data[0] & 1) {
    Archive archive(std::span<const u8>(data + 1, size - 1));
    fdc.visit(archive);
    for (u64 offset : {2, 3, 3, 3}) fdc.ports().bus_read(offset, 1);
    return 0;
  }
  memory::BusDevice* const blocks[] = {&fdc.ports(), &fdc.ports(), &dma.first_ports(), &dma.second_ports()};
  for (++data, --size; size >= 3; data += 3, size -= 3) {
    const unsigned which = data[0] & 3;
    const u64 offset = data[1] % (which < 2 ? 4 : which == 2 ? 16 : 32);
    if (data[0] & 4) blocks[which]->bus_read(offset, 1);
    else blocks[which]->bus_write(offset, data[2], 1);
    if (data[0] & 8) dma.page_ports().bus_write(data[1] % IsaDma::kPagePorts, data[2] & 3, 1);
    settle();
  }
  return 0;
}
