// The registers of an IDE channel with a disk and a CD drive: each 4 bytes are one access, and some let the loop work. The
// first byte chooses between that and restoring the rest as saved state.
#include "block/node.h"
#include "devices/legacy/test_doubles.h"
#include "devices/storage/ata_disk.h"
#include "devices/storage/atapi_drive.h"
#include "devices/storage/ide_channel.h"
#include "devices/virtio/test_driver.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::devices;
using fuzz::loop;
using fuzz::settle;

struct Parts {
  TestGuest guest{256 * kKiB};
  RecordingLine irq;
  std::unique_ptr<block::Node> disk_node = block::make_null_node(loop(), {.size = 64 * kKiB});
  std::unique_ptr<block::Node> cd_node = block::make_null_node(loop(), {.size = 64 * kKiB});
  IdeChannel ide{loop(), guest.space(), irq};

  Parts() {
    auto disk = std::make_unique<AtaDisk>(loop(), AtaDiskOptions{});
    disk->io().set_node(disk_node.get());
    auto drive = std::make_unique<AtapiDrive>(loop(), AtapiDriveOptions{});
    drive->io().set_node(cd_node.get());
    ide.attach(0, std::move(disk));
    ide.attach(1, std::move(drive));
  }
  ~Parts() { settle(); }
  void access(const u8* step) {
    memory::BusDevice* const blocks[] = {&ide.command_block(), &ide.control_block(), &ide.bus_master()};
    memory::BusDevice& block = *blocks[step[0] >> 4 & 3 ? (step[0] >> 4 & 3) - 1 : 0];
    const unsigned width = 1u << (step[0] & 1) << (step[0] >> 1 & 1);
    if (step[0] & 8) block.bus_read(step[1] & 7, width);
    else block.bus_write(step[1] & 7, load_le<u16>(step + 2), width);
    if (step[0] & 0x80) settle();
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Parts parts;
  const bool from_state = data[0] & 1;
  ++data;
  --size;
  if (from_state) {
    Archive archive(std::span<const u8>(data, size));
    parts.ide.visit(archive);
    const u8 go_on[] = {0x88, 0, 0, 0, 0x80, 0, 1, 1, 0xb0, 0, 1, 0};
    for (size_t at = 0; at < sizeof go_on; at += 4) parts.access(go_on + at);
    return 0;
  }
  for (; size >= 4; data += 4, size -= 4) parts.access(data);
  return 0;
}
