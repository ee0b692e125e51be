// The PIIX4's power management function (82371AB, 8086:7113) at 01.3: identification and the base address of the PM1
// register block, which firmware chooses, and the switch of the command port's system management interrupt. The registers
// themselves are devices/legacy/acpi_pm. Missing: SMBus host controller, other sources of such interrupts, GLBCTL.
#pragma once

#include <atomic>
#include <functional>

#include "devices/device.h"
#include "devices/pci/function.h"

namespace atl::machine {

class Piix4Pm final : public devices::Device {
 public:
  /// `moved` is told the base port, or 0 while the block is off; vCPU thread, under the PCI bus's lock.
  /// `raise_smi` empty: there is no system management mode, which counts as set up then: firmware must not wait for a handler.
  Piix4Pm(std::function<void(u16 base)> moved, std::function<void()> raise_smi)
      : moved_(std::move(moved)), raise_smi_(std::move(raise_smi)) {
    function_.set_byte(kPmBase, 1);  // an I/O address
    if (raise_smi_) function_.set_writable(kDeviceActivityB + 3, kApmcEnable);
    else function_.set_byte(kDeviceActivityB + 3, kApmcEnable);
    for (u16 i = 0; i < 2; ++i) function_.set_writable(static_cast<u16>(kPmBase + i), i ? 0xff : 0xc0);
    function_.set_writable(kPmControl, 1);
    function_.set_window({.offset = kPmBase, .size = kPmControl + 1 - kPmBase, .before_read = {},
                          .after_write = [this](u16, unsigned) { refresh(); }});
  }

  std::string_view type() const override { return "PIIX4_PM"; }
  void reset() override {
    function_.reset();
    refresh();
  }
  void visit(Archive& archive) override {
    function_.visit(archive);
    refresh();
  }
  devices::PciFunction& function() { return function_; }
  /// A write to the command port.
  void command_written() {
    if (raise_smi_ && command_enabled_) raise_smi_();
  }

 private:
  static constexpr u16 kPmBase = 0x40, kDeviceActivityB = 0x58, kPmControl = 0x80;
  static constexpr u8 kApmcEnable = 0x02;  // bit 25 of DEVACTB

  void refresh() {
    const u16 base = function_.byte(kPmControl) & 1 ? static_cast<u16>(function_.word(kPmBase) & 0xffc0) : u16{0};
    moved_(base);
    command_enabled_ = function_.byte(kDeviceActivityB + 3) & kApmcEnable;
  }

  const std::function<void(u16)> moved_;
  const std::function<void()> raise_smi_;
  std::atomic<bool> command_enabled_ = false;
  devices::PciFunction function_{"PIIX4_PM", {.vendor = 0x8086, .device = 0x7113, .revision = 3, .class_code = 0x068000,
                                              .subsystem_vendor = 0x1af4, .subsystem = 0x1100}};
};

}  // namespace atl::machine
