// A wire to another program over a socket, as QEMU has it: a stream carries each frame behind its length, four bytes with the
// highest first; datagrams carry one frame each, to one address or to a multicast group.
// Supported: TCP, UDP and Unix sockets, an adopted descriptor of either type. One peer at a time: a second one that connects waits
// until the first has gone. A stream that breaks the framing is closed.
//
// Threads: its loop. A peer that does not read costs a bounded buffer; frames are dropped then.
#pragma once

#include <sys/socket.h>

#include <memory>
#include <vector>

#include "base/fd.h"
#include "net/backend.h"

namespace atl::net {

inline constexpr size_t kMaxWireFrame = 68 * 1024;   // QEMU's

/// Cuts a stream into frames.
class FrameCutter {
 public:
  /// False: the stream names a length that no frame has.
  bool add(std::span<const u8> bytes);
  /// The next whole frame, valid until the next call; empty if there is none.
  std::span<const u8> next();

 private:
  std::vector<u8> buffer_;
  size_t at_ = 0;
};

class SocketBackend final : public Backend {
 public:
  static Result<std::unique_ptr<Backend>> create(Loop& loop, const SocketOptions& options);
  ~SocketBackend() override;

  void set_sink(FrameSink* sink) override;
  bool send(std::span<const iovec> frame) override;
  void resume_receive() override;
  bool has_vnet_header() const override { return false; }
  Offloads offloads() const override { return {}; }
  void set_offloads(const Offloads&) override {}
  std::string describe() const override;
  Loop& loop() override { return loop_; }

 private:
  struct Address {
    sockaddr_storage storage{};
    socklen_t size = 0;
  };

  SocketBackend(Loop& loop, const SocketOptions& options);
  Status start();
  Status start_datagrams();
  Status start_multicast();
  Status adopt();
  Status connect();
  void connect_done();
  void accept();
  void attach(Fd fd);
  void lose();
  void on_ready(u32 events);
  void read_stream();
  void read_datagrams();
  void deliver_stream();
  bool deliver(std::span<const u8> frame);
  bool send_datagram(std::span<const iovec> frame);
  bool send_stream(std::span<const iovec> frame, size_t bytes);
  void write_out();
  void set_events();
  static Result<Address> address_of(const SocketOptions::Address& where, bool passive);

  Loop& loop_;
  const SocketOptions options_;
  bool datagrams_ = false;
  FrameSink* sink_ = nullptr;
  Fd listener_, fd_;
  Address remote_;                  // of datagrams; size 0: the socket is connected
  std::string bound_path_;          // a Unix socket that is ours to remove
  bool connecting_ = false;
  FrameCutter cutter_;
  std::vector<u8> datagram_;        // buffer
  std::vector<u8> held_;            // a frame the guest had no room for
  std::vector<u8> output_;          // what a stream has not taken yet
  u64 dropped_ = 0;
  std::unique_ptr<Loop::Watch> listener_watch_, watch_;
  Loop::Timer retry_;
};

}  // namespace atl::net
