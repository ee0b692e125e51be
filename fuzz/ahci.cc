// An AHCI port with a disk or a CD drive whose driver writes anything into registers, command list and tables. The first byte
// chooses the device, and between a driver and restoring the rest as saved state; then come 6 bytes a step.
#include <cstring>

#include "base/endian.h"
#include "block/node.h"
#include "devices/storage/ahci_port.h"
#include "devices/storage/ata_disk.h"
#include "devices/storage/atapi_drive.h"
#include "devices/virtio/test_driver.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::devices;
using fuzz::loop;
using fuzz::settle;

constexpr u64 kRam = 64 * kKiB;

std::unique_ptr<AtaDevice> make_device(bool cd, block::Node& node) {
  std::unique_ptr<AtaDevice> device;
  if (cd) device = std::make_unique<AtapiDrive>(loop(), AtapiDriveOptions{});
  else device = std::make_unique<AtaDisk>(loop(), AtaDiskOptions{});
  device->io().set_node(&node);
  return device;
}

/// Memory bytes, or a register.
void step(TestGuest& guest, AhciPort& port, const u8* at) {
  const u32 value = load_le<u32>(at + 2);
  if (at[0] & 1) std::memcpy(guest.at(load_le<u16>(at) & 0x3ffe), at + 2, 4);
  else if (at[0] & 2) port.read(at[1] & 0x7c);
  else port.write(at[1] & 0x7c, value);
  if (at[0] & 0x80) settle();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  TestGuest guest(kRam);
  auto node = block::make_null_node(loop(), {.size = 64 * kKiB});
  {
    AhciPort port(loop(), guest.space(), [] {});
    port.attach(make_device(data[0] & 2, *node));
    port.write(ahci::kPxFb, 0x8000);
    port.write(ahci::kPxCmd, ahci::kCmdFre | ahci::kCmdSt);
    if (data[0] & 1) {
      Archive archive(std::span<const u8>(data + 1, size - 1));
      port.visit(archive);
      port.serve();
    } else {
      for (++data, --size; size >= 6; data += 6, size -= 6) step(guest, port, data);
    }
    settle();
  }
  return 0;
}
