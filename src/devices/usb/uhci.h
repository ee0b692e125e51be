// Universal Host Controller Interface, Revision 1.1: the full- and low-speed controllers of PIIX3, PIIX4 and ICH9.
// Supported: both ports, control, bulk and interrupt queues, bandwidth reclamation within a budget a frame, companion of an
// EHCI. Missing: isochronous transfers, legacy keyboard emulation (LEGSUP is stored).
//
// Threads: registers on vCPU threads, frames on the clock's loop, both under the bus's mutex.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "devices/pci/device.h"
#include "devices/pci/dma.h"
#include "devices/usb/bus.h"
#include "devices/usb/frame_clock.h"

namespace atl::devices::usb {

class Uhci final : public PciDevice, private memory::BusDevice, private Controller {
 public:
  struct Model {
    const char* type;   // "piix3-usb-uhci"
    u16 device = 0;     // PCI device number
    u8 revision = 0, pin = 1;
  };
  static const Model* find_model(std::string_view type);
  static std::span<const Model> models();

  /// `bus` is its own, with two ports; or an EHCI's, whose ports `first_port` and the next it serves as a companion.
  Uhci(const Model& model, memory::AddressSpace& memory, DeviceClock& clock, std::shared_ptr<Bus> bus,
       std::optional<unsigned> companion_of_port);
  ~Uhci() override;

  std::string_view type() const override { return model_.type; }
  void reset() override;
  void visit(Archive& archive) override;
  void quiesce(std::function<void()> done) override;
  void resume() override;
  PciFunction& function() override { return function_; }
  Controller& controller() { return *this; }

 private:
  static constexpr unsigned kPorts = 2;

  u64 bus_read(u64 offset, unsigned width) override;
  void bus_write(u64 offset, u64 value, unsigned width) override;
  std::vector<Speed> speeds(unsigned) const override { return {Speed::Full, Speed::Low}; }
  void port_changed(unsigned port) override;
  void device_woke() override { frames_.poke(); }

  u16 read_register(u32 offset);
  void write_register(u32 offset, u16 value);
  void write_command(u16 value);
  void write_port(unsigned index, u16 value);
  void reset_registers();
  void update_interrupt();
  /// Stops with a host system or process error.
  void fail(u16 status);
  void frame();
  void wake_ports();
  void run_schedule();

  struct Descriptor {
    u32 link = 0, control = 0, token = 0, buffer = 0;
  };
  enum class Next : u8 { Advance, Stay, Skip };  // in the queue; Skip: nothing done
  Next run_descriptor(Descriptor& td, u16& causes);
  Outcome transact(const Descriptor& td, UsbDevice& device);
  UsbDevice* find(u8 address) const;

  const Model& model_;
  const std::shared_ptr<Bus> bus_;
  const bool companion_;
  const unsigned first_port_;
  PciFunction function_;
  PciDma dma_;
  FrameClock frames_;
  // Under the bus's mutex.
  u16 command_ = 0, status_ = 0, enable_ = 0, frame_number_ = 0;
  u32 frame_list_ = 0;
  u8 sof_ = 64;
  std::array<u16, kPorts> port_{};
  bool paused_ = false;
  u32 budget_ = 0;                     // bytes left of this frame
  std::vector<u8> buffer_;
};

}  // namespace atl::devices::usb
