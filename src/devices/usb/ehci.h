// Enhanced Host Controller Interface, Revision 1.0: the high-speed controllers of ICH9 and of the 82801D by number.
// Supported: asynchronous and periodic queues, ports that are handed to companions (UHCI) for slower devices. Missing:
// isochronous transfers (iTD and siTD are passed over), split transactions (hubs are full-speed ones, behind a companion),
// 64-bit addresses, port indicators, debug port.
//
// Threads: registers on vCPU threads, schedules on the clock's loop, both under the bus's mutex.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "devices/pci/device.h"
#include "devices/pci/dma.h"
#include "devices/usb/bus.h"
#include "devices/usb/frame_clock.h"

namespace atl::devices::usb {

class Ehci final : public PciDevice, private memory::BusDevice, private Controller {
 public:
  static constexpr unsigned kPorts = 6;
  struct Model {
    const char* type;  // "ich9-usb-ehci1"
    u16 device = 0;    // PCI device number
    u8 revision = 0, pin = 1;
  };
  static const Model* find_model(std::string_view type);

  /// `bus` is its own, with kPorts ports.
  Ehci(const Model& model, memory::AddressSpace& memory, DeviceClock& clock, std::shared_ptr<Bus> bus);
  ~Ehci() override;

  std::string_view type() const override { return model_.type; }
  void reset() override;
  void visit(Archive& archive) override;
  void quiesce(std::function<void()> done) override;
  void resume() override;
  PciFunction& function() override { return function_; }

 private:
  /// A transfer descriptor, or the part of a queue head that has its form (3.5, 3.6).
  struct Overlay {
    u32 next = 1, alternate = 1, token = 0;
    std::array<u32, 5> pages{};
  };
  struct QueueHead {
    u32 link = 1, characteristics = 0, capabilities = 0, current = 0;
    Overlay overlay;
  };
  enum class Step : u8 { Idle, Moved };

  u64 bus_read(u64 offset, unsigned width) override;
  void bus_write(u64 offset, u64 value, unsigned width) override;
  std::vector<Speed> speeds(unsigned port) const override;
  void port_changed(unsigned port) override;
  void device_woke() override { frames_.poke(); }
  bool add_companion(Controller& companion, unsigned first) override;

  u32 read_register(u32 offset) const;
  void write_register(u32 offset, u32 value);
  void write_command(u32 value);
  void write_port(unsigned index, u32 value);
  void set_owner(unsigned index, bool companion);
  void reset_registers();
  void update_interrupt();

  void frame();
  void wake_ports();
  void run_periodic();
  void run_async();
  Step run_queue(u32 at);
  bool load_queue(u32 at, QueueHead& head);
  void store_queue(u32 at, const QueueHead& head);
  /// Makes the next descriptor the queue's current one. False: there is none.
  bool advance(QueueHead& head);
  void finish(QueueHead& head);
  bool transact(QueueHead& head, UsbDevice& device);
  bool copy(Overlay& overlay, std::span<u8> buffer, bool to_guest);
  UsbDevice* find(u8 address) const;

  const Model& model_;
  const std::shared_ptr<Bus> bus_;
  PciFunction function_;
  PciDma dma_;
  FrameClock frames_;
  // Under the bus's mutex.
  u32 command_ = 0, status_ = 0, enable_ = 0, frame_index_ = 0, periodic_ = 0, async_ = 0, configured_ = 0;
  std::array<u32, kPorts> port_{};
  std::array<Controller*, kPorts> companions_{};
  bool paused_ = false;
  std::vector<u8> buffer_;
};

}  // namespace atl::devices::usb
