// User-mode networking: libslirp on an event loop. Frames carry a vnet header, so that the guest may leave checksums
// and segmentation of TCP to us: libslirp takes segments of any size, and what it sends is right by construction.
// Supported: IPv4 and IPv6, DHCP, DNS, TFTP, host forwarding, guest forwarding
// to programs, restriction. Missing: guest forwarding to character devices, SMB.
//
// Threads: its loop. Poll set and library are brought up to date once a turn, not once a packet.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include <libslirp.h>

#include "net/backend.h"

namespace atl::net {

class UserBackend final : public Backend {
 public:
  static Result<std::unique_ptr<Backend>> create(Loop& loop, const UserOptions& options);
  ~UserBackend() override;

  void set_sink(FrameSink* sink) override { sink_ = sink; }
  bool send(std::span<const iovec> frame) override;
  void flush() override { turn_end_.schedule(); }
  void resume_receive() override;
  bool has_vnet_header() const override { return true; }
  Offloads offloads() const override { return {.checksum = true, .tso4 = true, .tso6 = true, .ecn = true}; }
  void set_offloads(const Offloads& guest) override { guest_checks_ = !guest.checksum; }
  Status add_forward(const HostForward& forward) override;
  Status remove_forward(const HostForward& forward) override;
  std::string describe() const override;
  Loop& loop() override { return loop_; }

 private:
  struct Socket {
    std::unique_ptr<Loop::Watch> watch;
    u32 armed = 0;   // poll(2) events the kernel watches for
    u32 wanted = 0;  // what libslirp asked for last
    u32 ready = 0;   // what came since
  };
  struct StackTimer;
  static const SlirpCb kCallbacks;

  UserBackend(Loop& loop, const UserOptions& options);
  Status start(const SlirpConfig& config);
  Status add_guest_forward(const GuestForward& forward);
  void finish_turn();
  void poll_sockets();
  void collect_sockets();
  int want(int fd, u32 events);
  void socket_ready(int fd, u32 revents);
  void forget(int fd);
  /// A frame for the guest; held back while it has no room.
  void deliver(std::span<const u8> frame);
  bool offer(std::span<const u8> frame);

  Loop& loop_;
  const UserOptions options_;
  Slirp* stack_ = nullptr;
  FrameSink* sink_ = nullptr;
  bool guest_checks_ = true;           // the guest does not accept DATA_VALID
  std::unordered_map<int, Socket> sockets_;
  std::vector<Socket*> polled_;        // by the index that libslirp knows; valid until the next collect_sockets()
  bool ready_ = false;                 // libslirp has events or a deadline to look at
  Loop::Timer deadline_;
  u64 deadline_ns_ = 0;
  Loop::Deferred turn_end_;
  std::deque<std::vector<u8>> held_;   // frames the guest had no room for
  u64 held_bytes_ = 0;
  u64 dropped_ = 0, guest_errors_ = 0;
  std::vector<u8> packet_;             // the frame under way to libslirp, in one piece
};

}  // namespace atl::net
