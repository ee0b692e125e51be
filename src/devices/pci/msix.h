// MSI-X: vector table, pending bits, masks. PCI 3.0 section 6.8.2.
//
// Threads: the table is a BAR of its own, accessed by vCPU threads; fire() comes from I/O loops. A mutex guards the table;
// fire() of an open vector takes no lock.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/archive.h"
#include "base/result.h"
#include "base/sync.h"
#include "cpu/vm.h"
#include "memory/address_space.h"

namespace atl::devices {

class Msix final : public memory::BusDevice {
 public:
  /// One interrupt route a vector; 1 to 2048 vectors.
  static Result<std::unique_ptr<Msix>> create(cpu::Vm& vm, unsigned vectors);

  unsigned vectors() const { return static_cast<unsigned>(vectors_.size()); }
  /// Bytes of the BAR: table at 0, pending bits at pba_offset(); a power of two, at least a page.
  u64 bar_bytes() const;
  u32 pba_offset() const;

  /// Raises a vector, or notes it as pending while masked. Numbers past the end are ignored. Any thread.
  void fire(unsigned vector);
  bool enabled() const { return enabled_.load(std::memory_order_acquire); }
  /// From the capability's control register. vCPU or control thread.
  void set_control(bool enabled, bool function_masked);
  void reset();
  /// Table and pending bits. Control comes from the function's configuration space.
  void visit(Archive& archive);

  u64 bus_read(u64 offset, unsigned width) override;
  void bus_write(u64 offset, u64 value, unsigned width) override;

 private:
  struct Vector {
    u64 address = 0;
    u32 data = 0;
    u32 control = 1;                 // masked at reset
    bool pending = false;
    std::atomic<bool> open = false;  // enabled and unmasked: fire() may go straight to the route
    std::unique_ptr<cpu::MsiRoute> route;
  };

  explicit Msix(unsigned vectors) : vectors_(vectors) {}
  u32 read_dword(u64 offset) REQUIRES(mutex_);
  void write_dword(u64 offset, u32 value, u32 mask) REQUIRES(mutex_);
  void refresh(Vector& vector) REQUIRES(mutex_);

  Mutex mutex_;
  std::vector<Vector> vectors_;  // the size and the routes never change; the rest is guarded by mutex_
  std::atomic<bool> enabled_ = false;
  bool function_masked_ GUARDED_BY(mutex_) = false;
};

}  // namespace atl::devices
