// Realtek RTL8139C+, a Fast Ethernet card. Specifications: see rtl8139_spec.h.
// Supported: the four transmit registers and the receive buffer of the RTL8139, descriptor rings of C+ mode with checksum and
// large-send offload and VLAN tags, address filters, EEPROM on its wires, PHY registers with link state, timer, tally counters.
// Missing: loopback, wake-up, the high-priority transmit ring of C+ mode, early interrupts.
//
// Threads: registers on vCPU threads under the mutex; rings on the port's loop, which takes the mutex for each frame and
// calls the back end without it.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "base/sync.h"
#include "devices/legacy/device_clock.h"
#include "devices/nic/ethernet.h"
#include "devices/nic/microwire_eeprom.h"
#include "devices/nic/nic_port.h"
#include "devices/nic/rtl8139_spec.h"
#include "devices/pci/device.h"
#include "devices/pci/dma.h"

namespace atl::devices {

class Rtl8139 final : public PciDevice, private NicPort::Card, private memory::BusDevice {
 public:
  struct Wiring {
    memory::AddressSpace& memory;
    DeviceClock& clock;     // its alarms fire on `loop`
    net::Backend* backend;  // outlives the card; nullptr: not connected
    Loop& loop;
  };
  /// On the loop's thread, as the destruction.
  Rtl8139(const MacAddress& mac, const Wiring& wiring);
  ~Rtl8139() override;

  std::string_view type() const override { return "rtl8139"; }
  void reset() override;
  void visit(Archive& archive) override;
  std::string describe() const override { return "macaddr=" + ethernet::mac_text(mac_); }
  void quiesce(std::function<void()> done) override { port_.quiesce(std::move(done)); }
  void resume() override { port_.resume(); }
  PciFunction& function() override { return function_; }
  NicPort& port() { return port_; }

 private:
  struct Tally {
    u64 sent = 0, received = 0, received_own = 0, received_broadcast = 0;
    u32 received_multicast = 0;
    u16 missed = 0;
    void visit(Archive& archive);
  };
  /// A frame of the C+ ring that is not whole yet.
  struct Outgoing {
    std::vector<u8> frame;
    bool started = false;
    u32 command = 0, vlan = 0;
    void visit(Archive& archive);
  };
  enum class Kind : u8 { Own, Broadcast, Multicast, Promiscuous, Unwanted };

  u64 bus_read(u64 offset, unsigned width) override;
  void bus_write(u64 offset, u64 value, unsigned width) override;

  // Under the mutex.
  template <class T>
  T reg(u32 offset) const REQUIRES(mutex_) {
    return load_le<T>(&registers_[offset]);
  }
  template <class T>
  void set(u32 offset, T value) REQUIRES(mutex_) {
    store_le<T>(&registers_[offset], value);
  }
  void fill_eeprom() REQUIRES(mutex_);
  void reset_registers() REQUIRES(mutex_);
  void load_from_eeprom() REQUIRES(mutex_);
  void reset_phy() REQUIRES(mutex_);
  void refresh_for_read() REQUIRES(mutex_);
  void store(u32 offset, u64 value, unsigned width) REQUIRES(mutex_);
  bool locked(u32 offset) const REQUIRES(mutex_);
  void after_write(u32 offset, unsigned width, const std::array<u8, 256>& before) REQUIRES(mutex_);
  void command_written(u8 before) REQUIRES(mutex_);
  void eeprom_written() REQUIRES(mutex_);
  void phy_control_written(u16 before) REQUIRES(mutex_);
  void show_link(bool up) REQUIRES(mutex_);
  void dump_tally() REQUIRES(mutex_);
  u32 timer_ticks() const REQUIRES(mutex_);
  void arm_timer() REQUIRES(mutex_);
  void timer_fired();
  void raise(u16 causes) REQUIRES(mutex_);
  void update_interrupt() REQUIRES(mutex_);
  bool plus_transmit() const REQUIRES(mutex_) { return reg<u16>(rtl8139::kCpcr) & rtl8139::kCpTx; }
  bool plus_receive() const REQUIRES(mutex_) { return reg<u16>(rtl8139::kCpcr) & rtl8139::kCpRx; }

  // Loop.
  bool receive_frame(std::span<const u8> frame) override;
  bool transmit() override;
  void link_changed(bool up) override;
  /// The next frame to send, into out_: false if there is none. `whole` says whether it may go.
  bool take_next(bool& whole) REQUIRES(mutex_);
  bool take_slot(bool& whole) REQUIRES(mutex_);
  bool take_descriptor(bool& whole) REQUIRES(mutex_);
  void send(const Outgoing& out);
  Kind kind_of(std::span<const u8> frame) const REQUIRES(mutex_);
  bool store_in_buffer(std::span<const u8> frame, Kind kind) REQUIRES(mutex_);
  void store_in_ring(std::span<const u8> frame, Kind kind) REQUIRES(mutex_);
  void count_received(Kind kind) REQUIRES(mutex_);

  const MacAddress mac_;
  DeviceClock& clock_;
  PciFunction function_;

  Mutex mutex_;
  PciDma dma_ GUARDED_BY(mutex_);
  std::array<u8, rtl8139::kRegisterBytes> registers_ GUARDED_BY(mutex_){};
  MicrowireEeprom eeprom_ GUARDED_BY(mutex_){64};
  u8 next_slot_ GUARDED_BY(mutex_) = 0;             // of the four transmit registers
  u16 transmit_index_ GUARDED_BY(mutex_) = 0, receive_index_ GUARDED_BY(mutex_) = 0;  // of C+ rings
  u64 timer_start_ns_ GUARDED_BY(mutex_) = 0;
  Tally tally_ GUARDED_BY(mutex_);
  bool link_ GUARDED_BY(mutex_) = false;
  Outgoing outgoing_ GUARDED_BY(mutex_);
  std::unique_ptr<Alarm> alarm_;

  NicPort port_;  // last: it calls back
};

}  // namespace atl::devices
