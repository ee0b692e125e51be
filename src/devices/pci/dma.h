// Guest memory as a bus master reaches it: nothing while the command register's Bus Master bit is clear (PCI 3.0 section
// 6.2.2); reads of what is not RAM give zeros.
//
// Threads: one at a time (a device uses it under its own lock, or on its loop).
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "devices/pci/function.h"
#include "memory/address_space.h"

namespace atl::devices {

class PciDma {
 public:
  PciDma(memory::AddressSpace& space, const PciFunction& function) : space_(space), function_(function) {}

  bool read(GuestAddr at, std::span<u8> out) {
    if (function_.bus_master() && memory().read(at, out)) return true;
    std::ranges::fill(out, u8{0});
    return false;
  }
  bool write(GuestAddr at, std::span<const u8> data) { return function_.bus_master() && memory().write(at, data); }
  template <class T>
  bool read_object(GuestAddr at, T& out) {
    return read(at, {reinterpret_cast<u8*>(&out), sizeof out});
  }
  template <class T>
  bool write_object(GuestAddr at, const T& value) {
    return write(at, {reinterpret_cast<const u8*>(&value), sizeof value});
  }

 private:
  const memory::GuestMemory& memory() {
    const u64 generation = space_.generation();
    if (!memory_ || generation != generation_) {
      memory_ = space_.guest_memory();
      generation_ = generation;
    }
    return *memory_;
  }

  memory::AddressSpace& space_;
  const PciFunction& function_;
  std::shared_ptr<const memory::GuestMemory> memory_;
  u64 generation_ = 0;
};

}  // namespace atl::devices
