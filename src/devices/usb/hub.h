// A USB hub. Universal Serial Bus Specification 2.0, chapter 11. A full-speed hub of 1 to 8 ports: devices behind it are
// full- or low-speed ones. Supported: port power, connection, reset, enable, suspend, remote wake-up and their changes. Missing: over-current,
// indicators, transaction translators (high-speed hubs).
//
// Threads: as UsbDevice.
#pragma once

#include <array>

#include "devices/usb/device.h"

namespace atl::devices::usb {

class Hub final : public UsbDevice {
 public:
  static constexpr unsigned kMaxPorts = 8;

  explicit Hub(unsigned ports) : count_(ports) {}

  std::string_view type() const override { return "usb-hub"; }
  std::string_view product() const override { return "QEMU USB Hub"; }
  bool supports(Speed speed) const override { return speed == Speed::Full; }
  UsbDevice* find(u8 address) override;
  UsbDevice* child(unsigned number) override { return number >= 1 && number <= count_ ? ports_[number - 1].device : nullptr; }
  unsigned ports() const override { return count_; }
  void set_child(unsigned number, UsbDevice* device) override;
  bool asks_to_wake() override;

 private:
  struct Port {
    UsbDevice* device = nullptr;
    u16 status = 0, change = 0;
  };
  std::string text(u8 number) const override { return number == 1 ? "QEMU" : number == 2 ? "QEMU USB Hub" : number == 3 ? "314159" : ""; }
  Descriptors describe(Speed speed) const override;
  Outcome control(const Setup& setup, std::span<u8> data) override;
  Outcome data_in(u8 endpoint, std::span<u8> buffer) override;
  Outcome data_out(u8, std::span<const u8>) override { return {Answer::Stall, 0}; }
  void reset_state() override;
  void visit_state(Archive& archive) override;

  Outcome port_request(const Setup& setup, std::span<u8> data);
  Outcome set_feature(Port& port, u16 feature);
  Outcome clear_feature(Port& port, u16 feature);
  void show_connection(Port& port);
  bool wake_ports();

  const unsigned count_;
  std::array<Port, kMaxPorts> ports_{};
};

}  // namespace atl::devices::usb
