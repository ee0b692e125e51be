// The chip set's two reset registers: port 0x92 ("fast A20 and reset", IBM PS/2 system control port A) and port 0xcf9
// (PIIX reset control register, Intel 82371AB data sheet section 4.3).
// Missing: port 0x92's A20 bit is kept but masks nothing, as in the i8042.
// Threads: vCPU threads; atomics.
#pragma once

#include <atomic>

#include "devices/device.h"
#include "devices/legacy/byte_ports.h"
#include "devices/legacy/system_control.h"

namespace atl::devices {

class Port92 final : public Device, public BytePorts {
 public:
  explicit Port92(SystemControl& system) : system_(system) {}
  std::string_view type() const override { return "port92"; }
  void reset() override { value_ = kA20; }
  void visit(Archive& archive) override {
    u8 value = value_;
    archive.field(1, "value", value);
    value_ = value;
  }

 private:
  static constexpr u8 kFastReset = 1, kA20 = 2;

  u8 read_byte(u64) override { return value_; }
  void write_byte(u64, u8 value) override {
    const u8 before = value_.exchange(value & static_cast<u8>(~kFastReset));
    if (value & kFastReset && !(before & kFastReset)) system_.request_reset();
  }

  SystemControl& system_;
  std::atomic<u8> value_{kA20};
};

/// For boards without PCI: there the PCI bus answers at 0xcf9, as a part of its configuration address register.
class ResetControl final : public Device, public BytePorts {
 public:
  explicit ResetControl(SystemControl& system) : system_(system) {}
  std::string_view type() const override { return "reset-control"; }
  void reset() override { value_ = 0; }
  void visit(Archive& archive) override {
    u8 value = value_;
    archive.field(1, "value", value);
    value_ = value;
  }

 private:
  static constexpr u8 kSystemReset = 2, kResetCpu = 4;

  u8 read_byte(u64) override { return value_; }
  void write_byte(u64, u8 value) override {
    const u8 before = value_.exchange(value & (kSystemReset | kResetCpu));
    if (value & ~before & kResetCpu) system_.request_reset();
  }

  SystemControl& system_;
  std::atomic<u8> value_{0};
};

}  // namespace atl::devices
