// pc-testdev: what bare-metal test suites (kvm-unit-tests) use to exercise the emulator from inside. QEMU's register layout:
//   port 0xe0-0xe3  a 32-bit register, any width       port 0xe8-0xeb  the same register, byte accesses only
//   port 0xe4       the guest page whose host mapping is to be rebuilt: nothing to do where nothing is cached by it
//   port 0x2000+n   level of interrupt line n, 0 to 23
//   memory 0xff000000, 64 KiB of plain storage behind a device
// Threads: vCPU threads; one mutex for the register and the storage.
#pragma once

#include <array>
#include <vector>

#include "base/sync.h"
#include "cpu/vm.h"
#include "devices/device.h"
#include "memory/address_space.h"

namespace atl::devices {

class TestDevice final : public Device {
 public:
  static constexpr u64 kStoragePorts = 0xe0, kFlushPort = 0xe4, kBytePorts = 0xe8, kLinePorts = 0x2000, kMemory = 0xff000000;
  static constexpr unsigned kLines = 24;
  static constexpr u64 kMemoryBytes = 64 * kKiB;

  /// `lines`: GSI 0 to 23.
  explicit TestDevice(std::array<cpu::IrqLine*, kLines> lines) : lines_(lines), storage_(kMemoryBytes) {}

  std::string_view type() const override { return "pc-testdev"; }
  void reset() override;
  void visit(Archive& archive) override;

  /// The regions to add to the port space and to the memory space.
  std::vector<memory::Region> port_regions();
  memory::Region memory_region();

 private:
  /// A window that forwards to two members of the device.
  struct Window final : memory::BusDevice {
    using Read = u64 (TestDevice::*)(u64, unsigned);
    using Write = void (TestDevice::*)(u64, u64, unsigned);
    Window(TestDevice& device, Read read, Write write) : device_(device), read_(read), write_(write) {}
    u64 bus_read(u64 offset, unsigned width) override { return (device_.*read_)(offset, width); }
    void bus_write(u64 offset, u64 value, unsigned width) override { (device_.*write_)(offset, value, width); }

   private:
    TestDevice& device_;
    Read read_;
    Write write_;
  };

  u64 read_register(u64 offset, unsigned width);
  void write_register(u64 offset, u64 value, unsigned width);
  u64 read_nothing(u64, unsigned) { return 0; }
  void write_nothing(u64, u64, unsigned) {}
  void write_line(u64 offset, u64 value, unsigned width);
  u64 read_storage(u64 offset, unsigned width);
  void write_storage(u64 offset, u64 value, unsigned width);

  const std::array<cpu::IrqLine*, kLines> lines_;
  Mutex mutex_;
  u32 register_ GUARDED_BY(mutex_) = 0;
  std::vector<u8> storage_ GUARDED_BY(mutex_);
  Window register_window_{*this, &TestDevice::read_register, &TestDevice::write_register};
  Window nothing_window_{*this, &TestDevice::read_nothing, &TestDevice::write_nothing};
  Window line_window_{*this, &TestDevice::read_nothing, &TestDevice::write_line};
  Window storage_window_{*this, &TestDevice::read_storage, &TestDevice::write_storage};
};

}  // namespace atl::devices
