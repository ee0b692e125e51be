// Two ports for debugging firmware and tests: isa-debugcon, a byte sink that reads back a fixed value (Bochs port 0xe9),
// and isa-debug-exit, which ends the program with a status the guest chooses.
// Threads: vCPU threads; no state.
#pragma once

#include "base/char_backend.h"
#include "devices/device.h"
#include "devices/legacy/byte_ports.h"
#include "devices/legacy/system_control.h"

namespace atl::devices {

class DebugConsole final : public Device, public BytePorts {
 public:
  /// `readback`: what a read gives; SeaBIOS and OVMF take 0xe9 as proof of presence.
  explicit DebugConsole(CharBackend& backend, u8 readback = 0xe9) : backend_(backend), readback_(readback) {}
  std::string_view type() const override { return "isa-debugcon"; }
  void reset() override {}
  void visit(Archive&) override {}

 private:
  u8 read_byte(u64) override { return readback_; }
  void write_byte(u64, u8 value) override { backend_.write({&value, 1}); }

  CharBackend& backend_;
  const u8 readback_;
};

class DebugExit final : public Device, public memory::BusDevice {
 public:
  explicit DebugExit(SystemControl& system) : system_(system) {}
  std::string_view type() const override { return "isa-debug-exit"; }
  void reset() override {}
  void visit(Archive&) override {}

  u64 bus_read(u64, unsigned) override { return 0; }
  void bus_write(u64, u64 value, unsigned) override {
    system_.request_exit(static_cast<int>((value << 1 | 1) & 0xff));  // a process status has 8 bits
  }

 private:
  SystemControl& system_;
};

}  // namespace atl::devices
