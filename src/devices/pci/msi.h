// Message signaled interrupts: the capability with 64-bit address. PCI 3.0 section 6.8.1.
// Supported: 1 to 32 vectors. Missing: per-vector masking (optional).
//
// Threads: registers under the bus's lock; fire() from any thread.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "cpu/vm.h"

namespace atl::devices {

class Msi {
 public:
  /// `vectors` is a power of two up to 32.
  static Result<std::unique_ptr<Msi>> create(cpu::Vm& vm, unsigned vectors);

  /// The capability without its first two bytes, and which of its bits are the guest's.
  std::vector<u8> capability() const;
  std::vector<u8> writable() const;
  /// Takes over what the guest wrote; `body` is the capability without its first two bytes.
  void set_registers(std::span<const u8> body);

  bool enabled() const { return enabled_.load(std::memory_order_acquire) != 0; }
  /// Sends a vector's message; if the guest enabled fewer vectors, several share one.
  void fire(unsigned vector);

 private:
  std::vector<std::unique_ptr<cpu::MsiRoute>> routes_;
  std::atomic<unsigned> enabled_{0};  // vectors; 0: off
};

}  // namespace atl::devices
