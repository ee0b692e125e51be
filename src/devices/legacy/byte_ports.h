// Register blocks that are 8 bits wide: wider accesses become consecutive byte accesses, as an ISA bus splits them.
#pragma once

#include "memory/address_space.h"

namespace atl::devices {

class BytePorts : public memory::BusDevice {
 public:
  u64 bus_read(u64 offset, unsigned width) final {
    u64 value = 0;
    for (unsigned i = 0; i < width; ++i) value |= u64{read_byte(offset + i)} << (8 * i);
    return value;
  }
  void bus_write(u64 offset, u64 value, unsigned width) final {
    for (unsigned i = 0; i < width; ++i) write_byte(offset + i, static_cast<u8>(value >> (8 * i)));
  }

 protected:
  virtual u8 read_byte(u64 offset) = 0;
  virtual void write_byte(u64 offset, u8 value) = 0;
};

}  // namespace atl::devices
