// eXtensible Host Controller Interface 1.1 (names: see xhci_spec.h): "qemu-xhci" and NEC's uPD720200 by number.
// Supported: control, bulk and interrupt endpoints at low, full and high speed, hubs by route string, 16 interrupters with
// MSI-X or the pin, stopping and moving of rings. Missing: streams (none are offered), isochronous transfers, SuperSpeed devices
// (the ports are there and stay empty), bandwidth accounting, interrupt moderation, saving state into the driver's memory.
//
// Threads: registers on vCPU threads, rings on the clock's loop, both under the bus's mutex.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "cpu/vm.h"
#include "devices/legacy/device_clock.h"
#include "devices/pci/device.h"
#include "devices/pci/dma.h"
#include "devices/usb/bus.h"
#include "devices/usb/xhci_spec.h"

namespace atl::devices::usb {

class Xhci final : public PciDevice, private memory::BusDevice, private Controller {
 public:
  struct Options {
    bool nec = false;
    unsigned usb2_ports = 4, usb3_ports = 4;  // 1 to 15 each
  };
  struct Wiring {
    cpu::Vm& vm;
    memory::AddressSpace& memory;
    DeviceClock& clock;
  };
  /// `bus` has as many ports as there are USB 2 ones.
  static Result<std::unique_ptr<Xhci>> create(const Options& options, const Wiring& wiring, std::shared_ptr<Bus> bus);
  ~Xhci() override;

  std::string_view type() const override { return options_.nec ? "nec-usb-xhci" : "qemu-xhci"; }
  void reset() override;
  void visit(Archive& archive) override;
  void quiesce(std::function<void()> done) override;
  void resume() override;
  PciFunction& function() override { return function_; }

 private:
  struct Trb {
    u64 parameter = 0;
    u32 status = 0, control = 0;
    u64 at = 0;  // where it lies
    u8 type() const { return static_cast<u8>(control >> 10 & 63); }
  };
  /// A place in a ring and the cycle bit that makes its TRB valid.
  struct Cursor {
    u64 at = 0;
    bool cycle = false;
  };
  struct Endpoint {
    u8 state = xhci::kEndpointDisabled, kind = 0;  // kind: endpoint type of the context
    u16 packet_bytes = 0;
    Cursor dequeue;
    u32 done = 0;          // bytes of the TD at the cursor that are moved
    bool ready = false;    // its doorbell rang, or its device woke
    bool waiting = false;  // the device had nothing
  };
  struct Slot {
    bool enabled = false;
    u8 root_port = 0;      // from 1
    u32 route = 0;
    u64 context = 0;       // of the device, in guest memory
    u16 interrupter = 0;
    std::array<Endpoint, xhci::kEndpoints> endpoints;  // by context index; 1 is endpoint 0
  };
  struct Interrupter {
    u32 iman = 0, imod = 4000, erstsz = 0;
    u64 erstba = 0, erdp = 0;
    // The producer's place.
    u32 segment = 0, index = 0, segment_trbs = 0;
    u64 segment_base = 0;
    bool cycle = true;
  };
  struct Event {
    u8 type;
    xhci::Code code;
    u64 pointer = 0;
    u32 length = 0;
    u8 slot = 0, endpoint = 0;
    bool event_data = false;
  };
  /// A TD: TRBs that are carried out as one.
  struct Transfer {
    std::vector<Trb> trbs;
    Cursor next;
    u32 bytes = 0;
  };

  Xhci(const Options& options, const Wiring& wiring, std::shared_ptr<Bus> bus);
  Status build(cpu::Vm& vm);

  u64 bus_read(u64 offset, unsigned width) override;
  void bus_write(u64 offset, u64 value, unsigned width) override;
  std::vector<Speed> speeds(unsigned) const override { return {Speed::High, Speed::Full, Speed::Low}; }
  void port_changed(unsigned port) override;
  void device_woke() override;

  // Everything below under the bus's mutex.
  u32 read_register(u32 offset);
  u32 read_capability(u32 offset) const;
  u32 read_runtime(u32 offset) const;
  void write_register(u32 offset, u32 value);
  void write_operational(u32 offset, u32 value);
  void write_command(u32 value);
  void write_port(unsigned index, u32 value);
  void write_runtime(u32 offset, u32 value);
  void ring_doorbell(unsigned slot, u32 value);
  void reset_registers();
  void reset_port(unsigned index);
  unsigned port_count() const { return options_.usb2_ports + options_.usb3_ports; }
  void tell_port(unsigned index, u32 changes);
  void wake_ports();

  void send_event(const Event& event, unsigned interrupter);
  bool load_segment(Interrupter& r, u32 number);
  void update_interrupt();
  void signal(unsigned interrupter);
  /// Interrupts of what signal() noted. On the loop: a message never comes out of a driver's own register access.
  void deliver_signals();

  bool fetch(Cursor& cursor, Trb& trb);
  void work();
  void run_commands();
  xhci::Code run_command(const Trb& trb, u8& slot);
  xhci::Code enable_slot(u8& slot);
  xhci::Code disable_slot(Slot& slot);
  xhci::Code address_device(unsigned number, const Trb& trb);
  xhci::Code configure_endpoints(unsigned number, const Trb& trb);
  xhci::Code evaluate_context(unsigned number, const Trb& trb);
  xhci::Code reset_device(unsigned number);
  xhci::Code change_endpoint(unsigned number, const Trb& trb);
  void open_endpoint(Slot& slot, unsigned index, std::span<const u8> context);
  void close_endpoint(Slot& slot, unsigned index);
  void store_endpoint(const Slot& slot, unsigned index);
  u32 read_context(u64 at, unsigned dword);
  void write_context(u64 at, unsigned dword, u32 value);
  UsbDevice* device_of(const Slot& slot) const;
  bool set_address(Slot& slot, u8 address);

  void run_endpoint(unsigned slot, unsigned index);
  bool next_transfer(const Endpoint& endpoint, Transfer& transfer);
  /// False: the device had nothing, and the endpoint waits.
  bool carry_out(unsigned slot, unsigned index, Transfer& transfer);
  Outcome move(UsbDevice& device, Endpoint& endpoint, unsigned index, const Transfer& transfer);
  bool copy(const Transfer& transfer, u32 offset, std::span<u8> buffer, bool to_guest);
  void report(unsigned slot, unsigned index, const Transfer& transfer, xhci::Code code);

  const Options options_;
  const std::shared_ptr<Bus> bus_;
  PciFunction function_;
  PciDma dma_;
  DeviceClock& clock_;
  std::unique_ptr<Alarm> alarm_;

  u32 command_ = 0, status_ = xhci::kHalted, dnctrl_ = 0, config_ = 0;
  u64 crcr_ = 0, dcbaap_ = 0;
  Cursor command_ring_;
  u32 signals_ = 0;  // interrupters that have news
  bool commands_ready_ = false, command_ring_running_ = false, paused_ = false;
  std::array<u32, 2 * xhci::kMaxPorts> ports_{};
  std::array<Interrupter, xhci::kInterrupters> interrupters_{};
  std::vector<Slot> slots_;  // from 1
  std::vector<u8> buffer_;
};

}  // namespace atl::devices::usb
