// A driver that puts anything into the requests of a SCSI host with a disk and a CD drive. Steps: a byte for the queue and the
// shape, target, LUN, 16 bytes of CDB, sizes of the data.
#include "block/node.h"
#include "devices/storage/virtio_scsi.h"
#include "devices/virtio/test_driver.h"
#include "fuzz_input.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::devices;
using fuzz::loop;

std::unique_ptr<ScsiUnit> make_unit(ScsiUnitOptions::Kind kind, block::Node& node) {
  ScsiUnitOptions options;
  options.kind = kind;
  options.serial = "fuzz";
  auto unit = std::make_unique<ScsiUnit>(loop(), std::move(options));
  unit->io().set_node(&node);
  return unit;
}

void request(fuzz::Input& in, TestGuest& guest, TestDriver& driver, u8 shape) {
  u8 header[51] = {1, static_cast<u8>(in.byte() & 3), static_cast<u8>(shape & 0x40 ? 0x40 : in.byte()), in.byte()};
  auto cdb = in.bytes(16);
  std::copy(cdb.begin(), cdb.end(), header + 19);
  const u32 out = in.word() % 4096, back = in.word() % 4096;
  std::vector<TestBuffer> chain = {{guest.put(header), shape & 0x20 ? in.byte() : u32{sizeof header}}};
  auto payload = in.bytes(out);
  if (!payload.empty()) chain.push_back({guest.put(payload), static_cast<u32>(payload.size())});
  chain.push_back({guest.allocate(108), 108, true});
  if (back) chain.push_back({guest.allocate(back), back, true});
  driver.queue(shape & 0x80 ? 0 : 2).add(chain);
  driver.kick(shape & 0x80 ? 0 : 2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  TestGuest guest(kMiB);
  auto disk = block::make_null_node(loop(), {.size = 64 * kKiB});
  auto cd = block::make_null_node(loop(), {.size = 64 * kKiB});
  VirtioScsi scsi({.queues = 1, .queue_size = 16}, loop(), guest.space());
  scsi.attach_scsi({0, 0}, make_unit(ScsiUnitOptions::Kind::Disk, *disk), false);
  scsi.attach_scsi({1, 0}, make_unit(ScsiUnitOptions::Kind::Cd, *cd), false);
  TestDriver driver(guest, scsi);
  driver.start(scsi.features() & ~virtio::kRingFeatures, 16);
  for (int step = 0; step < 12 && !in.empty(); ++step) {
    request(in, guest, driver, in.byte());
    while (driver.queue(2).take_used()) {}
  }
  driver.stop();
  return 0;
}
