// pvpanic (QEMU docs/specs/pvpanic): one register through which a guest's kernel says that it has crashed; as an ISA port
// (0x505) and as a PCI function (1b36:0011) with the register in BAR 0.
// Reading gives the events that are reported, writing reports them: bit 0 panicked, bit 1 crashed with a crash kernel loaded.
// Threads: vCPU threads; no state.
#pragma once

#include "devices/legacy/byte_ports.h"
#include "devices/legacy/system_control.h"
#include "devices/pci/device.h"

namespace atl::devices {

enum PanicEvent : u8 { kPanicked = 1 << 0, kCrashLoaded = 1 << 1 };

class PvpanicPort final : public BytePorts {
 public:
  PvpanicPort(SystemControl& system, u8 events) : system_(system), events_(events) {}

 private:
  u8 read_byte(u64) override { return events_; }
  void write_byte(u64 offset, u8 value) override {
    if (offset != 0) return;
    if (value & events_ & kPanicked) system_.report_panic(false);
    else if (value & events_ & kCrashLoaded) system_.report_panic(true);
  }

  SystemControl& system_;
  const u8 events_;
};

class PvpanicIsa final : public Device {
 public:
  PvpanicIsa(SystemControl& system, u8 events) : port_(system, events) {}
  std::string_view type() const override { return "pvpanic"; }
  void reset() override {}
  void visit(Archive&) override {}
  memory::BusDevice& port() { return port_; }

 private:
  PvpanicPort port_;
};

class PvpanicPci final : public PciDevice {
 public:
  PvpanicPci(SystemControl& system, u8 events) : port_(system, events) {
    function_.set_bar(0, {.kind = PciBar::Kind::Memory32, .size = 16, .device = &port_});
  }
  std::string_view type() const override { return "pvpanic-pci"; }
  PciFunction& function() override { return function_; }
  void reset() override { function_.reset(); }
  void visit(Archive& archive) override { function_.visit(archive); }

 private:
  PvpanicPort port_;
  PciFunction function_{"pvpanic-pci", {.vendor = 0x1b36, .device = 0x0011, .revision = 1, .class_code = 0x088000,
                                        .subsystem_vendor = 0x1af4, .subsystem = 0x1100}};
};

}  // namespace atl::devices
