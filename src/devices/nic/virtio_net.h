// Network device: VIRTIO 1.2 section 5.1. Supported: mergeable receive buffers, checksum and TCP segmentation offloads as
// far as the back end has them, guest offload control, receive filter (mode, MAC table, VLAN table), MAC change,
// announcement, link status, MTU. Missing: multi-queue, RSS, USO.
//
// Threads: the back end's loop, which is the device's. set_link() and announce() any thread.
#pragma once

#include <array>
#include <atomic>
#include <bitset>
#include <memory>
#include <optional>
#include <vector>

#include "devices/nic/ethernet.h"
#include "devices/nic/receive_filter.h"
#include "devices/virtio/device.h"
#include "net/backend.h"

namespace atl::devices {

struct VirtioNetOptions {
  MacAddress mac{};
  u16 mtu = 0;               // 0: not told
  u16 queue_size = 256;
  bool offloads = true;      // checksum and segmentation, where the back end can
  bool mergeable = true;
};

class VirtioNet final : public VirtioDevice, private net::FrameSink {
 public:
  /// `backend` outlives the device; null: a cable that is not plugged in (the device then lives on `loop`).
  VirtioNet(VirtioNetOptions options, net::Backend* backend, Loop& loop, memory::AddressSpace& memory);
  ~VirtioNet() override;

  void set_link(bool up);
  /// Announces the card to the network, and asks the driver to announce its addresses.
  void announce();
  /// Loop.
  ReceiveFilter receive_filter() const;
  const MacAddress& mac() const { return options_.mac; }
  std::string describe() const override;

  /// What the driver asked to receive; for tests and the monitor. Loop.
  struct Filter {
    bool promiscuous = true, all_multicast = false, all_unicast = false;
    bool no_multicast = false, no_unicast = false, no_broadcast = false;
    std::vector<MacAddress> unicast, multicast;
    bool unicast_overflow = false, multicast_overflow = false;
    std::bitset<4096> vlans;
    bool filter_vlans = false;
    MacAddress own{};
    /// `frame` is the start of an Ethernet frame, 16 bytes of it if it has as many.
    bool passes(std::span<const u8> frame) const;
    void visit(Archive& archive);
  };
  const Filter& filter() const { return filter_; }

 private:
  bool receive(std::span<const iovec> frame) override;
  void received_batch() override;

  void serve(u16 index) override;
  void activated(u64 features) override;
  void reset_state() override;
  void visit(Archive& archive) override;

  void resume_backend();
  void send_announcement();
  void transmit();
  void send_chain(const Chain& chain);
  u8 control_command(const Chain& chain);
  u8 set_receive_mode(const Chain& chain, u8 command);
  u8 set_mac(const Chain& chain, u8 command);
  u8 set_mac_table(const Chain& chain);
  u8 set_vlan(const Chain& chain, u8 command);
  u8 acknowledge_announcement(u8 command);
  u8 set_guest_offloads(const Chain& chain);
  bool wanted(std::span<const iovec> frame) const;
  /// Puts a frame into receive buffers: false if there are too few now.
  bool deliver(std::span<const iovec> frame);
  bool gather_buffers(u64 bytes);
  u32 header_bytes() const;
  void copy_frame(std::span<const iovec> frame);
  void fill_buffers(std::span<const iovec> frame, u64 bytes);
  void apply_offloads();
  void change_status(u16 set, u16 clear);
  bool has(u64 feature) const { return chosen_features() & feature; }

  VirtioNetOptions options_;
  net::Backend* backend_;
  const bool backend_header_;       // frames of the back end carry a vnet header
  Filter filter_;
  u64 guest_offloads_ = 0;          // feature bits that the driver accepts now
  bool restored_ = false;           // guest_offloads_ and the filter come from saved state
  std::atomic<u16> status_;
  bool receive_blocked_ = false;    // the back end waits for resume_receive()
  std::vector<Chain> receive_chains_;
  std::vector<iovec> receive_iovecs_, body_iovecs_, transmit_iovecs_;  // apart: a frame sent may bring an answer at once
  u64 oversized_ = 0;
};

}  // namespace atl::devices
