// Intel gigabit cards: the 82540EM ("e1000") and the PCI Express 82574L ("e1000e"). Specifications: see e1000_spec.h.
// Supported: legacy and extended descriptors, checksum and TCP segmentation offload, VLAN tags and filter, multicast and
// address filters, EEPROM by wires and by EERD, PHY with link state, statistics of frames, flash absent; 82574: MSI-X with
// automatic masks, two transmit rings. Missing: interrupt moderation (interrupts come at once), packet-split descriptors,
// RSS (frames go to ring 0), MSI, time stamps, wake-up.
//
// Threads: registers on vCPU threads under the mutex; rings on the port's loop, which takes the mutex for each frame and
// calls the back end without it.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "base/sync.h"
#include "cpu/vm.h"
#include "devices/nic/e1000_spec.h"
#include "devices/nic/ethernet.h"
#include "devices/nic/microwire_eeprom.h"
#include "devices/nic/nic_port.h"
#include "devices/pci/device.h"
#include "devices/pci/dma.h"

namespace atl::devices {

enum class E1000Model : u8 { I82540, I82574 };

class E1000 final : public PciDevice, private NicPort::Card {
 public:
  struct Wiring {
    cpu::Vm& vm;
    memory::AddressSpace& memory;
    net::Backend* backend;  // outlives the card; nullptr: not connected
    Loop& loop;
  };
  /// On the loop's thread, as the destruction.
  static Result<std::unique_ptr<E1000>> create(E1000Model model, const MacAddress& mac, const Wiring& wiring);
  ~E1000() override;

  std::string_view type() const override { return model_ == E1000Model::I82540 ? "e1000" : "e1000e"; }
  void reset() override;
  void visit(Archive& archive) override;
  std::string describe() const override { return "macaddr=" + ethernet::mac_text(mac_); }
  void quiesce(std::function<void()> done) override { port_.quiesce(std::move(done)); }
  void resume() override { port_.resume(); }
  PciFunction& function() override { return function_; }
  NicPort& port() { return port_; }

 private:
  /// BAR 0: the registers.
  class Registers final : public memory::BusDevice {
   public:
    explicit Registers(E1000& card) : card_(card) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;

   private:
    E1000& card_;
  };
  /// The I/O BAR: an address register and a window to the register that it names (13.2.2).
  class IoWindow final : public memory::BusDevice {
   public:
    explicit IoWindow(E1000& card) : card_(card) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;
    std::atomic<u32> address = 0;

   private:
    E1000& card_;
  };
  /// 82574: flash that is not there.
  struct NoFlash final : memory::BusDevice {
    u64 bus_read(u64, unsigned) override { return 0; }
    void bus_write(u64, u64, unsigned) override {}
  };

  /// A transmit context descriptor: where headers lie and what to do with them (3.3.6).
  struct Context {
    u8 ipcss = 0, ipcso = 0, tucss = 0, tucso = 0, tucmd = 0, header_bytes = 0;
    u16 ipcse = 0, tucse = 0, mss = 0;
    u32 payload_bytes = 0;
    void visit(Archive& archive);
  };
  /// A frame that a transmit ring has given so far.
  struct Outgoing {
    std::vector<u8> frame;
    bool started = false, large = false, vlan = false, oversized = false, wants_sum = false;
    u8 popts = 0, sum_start = 0, sum_offset = 0;
    u16 vlan_tag = 0;
    Context plain, segmenting;
    void visit(Archive& archive);
  };

  E1000(E1000Model model, const MacAddress& mac, const Wiring& wiring);
  Status build(cpu::Vm& vm);
  void fill_eeprom() REQUIRES(mutex_);
  bool is_82574() const { return model_ == E1000Model::I82574; }

  // Registers, under the mutex.
  u32& reg(u32 offset) REQUIRES(mutex_) { return registers_[offset / 4]; }
  u32 read_register(u32 offset) REQUIRES(mutex_);
  void write_register(u32 offset, u32 value) REQUIRES(mutex_);
  void write_ring_register(u32 offset, u32 value) REQUIRES(mutex_);
  void write_control(u32 value) REQUIRES(mutex_);
  void write_eecd(u32 value) REQUIRES(mutex_);
  void write_eerd(u32 value) REQUIRES(mutex_);
  void write_mdic(u32 value) REQUIRES(mutex_);
  void write_phy(u8 index, u16 value) REQUIRES(mutex_);
  u32 read_status() REQUIRES(mutex_);
  u32 read_eecd() REQUIRES(mutex_);
  void reset_registers() REQUIRES(mutex_);
  void reset_phy() REQUIRES(mutex_);
  void show_link(bool up) REQUIRES(mutex_);

  // Interrupts, under the mutex.
  void raise(u32 causes) REQUIRES(mutex_);
  u32 read_causes() REQUIRES(mutex_);
  void update_interrupt() REQUIRES(mutex_);
  void update_msix(u32 active) REQUIRES(mutex_);
  void fire_cause(u32 cause, unsigned ivar_shift) REQUIRES(mutex_);
  void add_statistic(u32 offset, u64 amount) REQUIRES(mutex_);
  void add_wide_statistic(u32 offset, u64 amount) REQUIRES(mutex_);

  // Loop.
  bool receive_frame(std::span<const u8> frame) override;
  bool transmit() override;
  void link_changed(bool up) override;
  bool transmit_ring(unsigned queue);
  void send(const Outgoing& out);

  bool take_descriptor(unsigned queue, Outgoing& out) REQUIRES(mutex_);
  void take_context(const std::array<u8, 16>& descriptor, Outgoing& out) REQUIRES(mutex_);
  void take_data(const std::array<u8, 16>& descriptor, bool extended, Outgoing& out) REQUIRES(mutex_);
  void count_sent(const Outgoing& out) REQUIRES(mutex_);

  bool wanted(std::span<const u8> frame) REQUIRES(mutex_);
  bool passes_address(std::span<const u8> frame) REQUIRES(mutex_);
  u32 receive_buffer_bytes() REQUIRES(mutex_);
  bool has_room(u64 bytes) REQUIRES(mutex_);
  void store_frame(std::span<const u8> frame) REQUIRES(mutex_);
  void write_back(GuestAddr at, std::span<const u8> part, u16 vlan, u32 status, u32 errors) REQUIRES(mutex_);
  void count_received(std::span<const u8> frame) REQUIRES(mutex_);

  const E1000Model model_;
  const MacAddress mac_;
  Registers window_{*this};
  IoWindow io_window_{*this};
  NoFlash no_flash_;
  PciFunction function_;

  Mutex mutex_;
  PciDma dma_ GUARDED_BY(mutex_);
  std::vector<u32> registers_ GUARDED_BY(mutex_);
  std::array<u16, 32> phy_ GUARDED_BY(mutex_){};
  MicrowireEeprom eeprom_ GUARDED_BY(mutex_){64};
  u32 eecd_ GUARDED_BY(mutex_) = 0;
  u32 fired_ GUARDED_BY(mutex_) = 0;  // causes whose MSI-X message is out and not yet acknowledged
  bool link_ GUARDED_BY(mutex_) = false;
  std::atomic<bool> outgoing_reset_ = false;  // the driver reset the card: the loop forgets half frames
  std::array<Outgoing, 2> outgoing_;  // loop; control thread while quiesced
  std::vector<u8> received_;          // loop: a frame with its check sequence

  NicPort port_;  // last: it calls back
};

}  // namespace atl::devices
