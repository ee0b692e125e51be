#include "devices/legacy/test_device.h"

#include <algorithm>

#include "base/endian.h"

namespace atl::devices {

void TestDevice::reset() {
  Lock lock(mutex_);
  register_ = 0;
  std::ranges::fill(storage_, u8{0});
}

void TestDevice::visit(Archive& archive) {
  Lock lock(mutex_);
  archive.field(1, "register", register_);
  archive.bytes(2, "storage", storage_);
}

std::vector<memory::Region> TestDevice::port_regions() {
  return {
      {.name = "pc-testdev-register", .base = kStoragePorts, .size = 4, .device = &register_window_},
      {.name = "pc-testdev-flush", .base = kFlushPort, .size = 4, .device = &nothing_window_},
      {.name = "pc-testdev-register-bytes", .base = kBytePorts, .size = 4, .device = &register_window_},
      {.name = "pc-testdev-lines", .base = kLinePorts, .size = kLines, .device = &line_window_},
  };
}

memory::Region TestDevice::memory_region() {
  // Above the firmware's alias at the top of 4 GiB, which this window overlaps where the firmware is large.
  return {.name = "pc-testdev-memory", .base = kMemory, .size = kMemoryBytes, .priority = 1, .device = &storage_window_};
}

u64 TestDevice::read_register(u64 offset, unsigned width) {
  Lock lock(mutex_);
  return register_ >> (8 * offset) & byte_mask(width);
}

void TestDevice::write_register(u64 offset, u64 value, unsigned width) {
  Lock lock(mutex_);
  const u64 mask = byte_mask(width) << (8 * offset);
  register_ = static_cast<u32>((register_ & ~mask) | (value << (8 * offset) & mask));
}

void TestDevice::write_line(u64 offset, u64 value, unsigned) { lines_[offset]->set(value != 0); }

u64 TestDevice::read_storage(u64 offset, unsigned width) {
  Lock lock(mutex_);
  return load_le_n(&storage_[offset], width);
}

void TestDevice::write_storage(u64 offset, u64 value, unsigned width) {
  Lock lock(mutex_);
  store_le_n(&storage_[offset], value, width);
}

}  // namespace atl::devices
