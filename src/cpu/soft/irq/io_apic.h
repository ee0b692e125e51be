// I/O APIC with 24 pins: Intel 82093AA datasheet; version 0x20 with the EOI register, as QEMU's.
//
// Supported: edge and level pins, remote IRR, delivery status (always idle), masking, polarity (ignored: callers speak of
// active and inactive), EOI by broadcast and by register. Missing: SMI delivery.
//
// Threads: everything from any thread, under one lock; messages are delivered after it is released.
#pragma once

#include <array>
#include <string>

#include "base/archive.h"
#include "base/sync.h"
#include "cpu/soft/irq/local_apic.h"
#include "memory/address_space.h"

namespace atl::soft {

struct SoftVm;

class IoApic final : public memory::BusDevice {
 public:
  static constexpr u32 kPins = 24;
  static constexpr u64 kBase = 0xfec00000;
  static constexpr u64 kSize = 0x1000;

  explicit IoApic(SoftVm& vm) : vm_(vm) { reset(); }

  void set_pin(u32 pin, bool level) EXCLUDES(mutex_);
  void end_of_interrupt(u8 vector) EXCLUDES(mutex_);
  bool enabled(u32 pin) const EXCLUDES(mutex_);
  /// Whether the pin is one of edges and sends `vector`.
  bool sends(u32 pin, u8 vector) const EXCLUDES(mutex_);
  /// Whether what the pin's last edge sent is still only requested, at some local APIC.
  bool edge_waits(u32 pin) const EXCLUDES(mutex_);
  void reset() EXCLUDES(mutex_);
  void visit(Archive& archive) EXCLUDES(mutex_);
  std::string describe() const EXCLUDES(mutex_);

  u64 bus_read(u64 offset, unsigned width) override EXCLUDES(mutex_);
  void bus_write(u64 offset, u64 value, unsigned width) override EXCLUDES(mutex_);

 private:
  /// Interrupts to send once the lock is released.
  struct Outbox {
    std::array<Interrupt, kPins> interrupts;
    u32 count = 0;
  };

  u32 read_register() const REQUIRES(mutex_);
  void write_register(u32 value, Outbox& out) REQUIRES(mutex_);
  void service(u32 pin, Outbox& out) REQUIRES(mutex_);
  void finish(u8 vector, Outbox& out) REQUIRES(mutex_);
  void send(const Outbox& out);

  SoftVm& vm_;
  mutable Mutex mutex_;
  u8 select_ GUARDED_BY(mutex_) = 0;
  u8 id_ GUARDED_BY(mutex_) = 0;
  u32 levels_ GUARDED_BY(mutex_) = 0;   // inputs, a bit a pin
  u32 edges_ GUARDED_BY(mutex_) = 0;    // edges not yet sent (masked meanwhile) of pins that are still up
  std::array<u64, kPins> redirection_ GUARDED_BY(mutex_){};
};

}  // namespace atl::soft
