// Socket device: VIRTIO 1.2 section 5.10, streams. The host's end are Unix sockets, as Firecracker and Cloud Hypervisor have them:
// a program of the host connects to the device's socket and says "CONNECT port\n", which is answered by "OK number\n" once the guest
// has accepted; a guest that connects to port N of the host (CID 2) reaches who listens at the socket's path with "_N" behind it.
// Missing: datagrams, sequenced packets, the kernel's vhost-vsock, connections that outlive saving (the guest is told to drop them).
//
// Threads: its loop.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "devices/virtio/device.h"

namespace atl::devices {

struct VirtioVsockOptions {
  u64 guest_cid = 3;
  std::string path;  // of the Unix socket
};

class VirtioVsock final : public VirtioDevice {
 public:
  /// Listens. On the loop's thread; the error names the path.
  static Result<std::unique_ptr<VirtioVsock>> create(VirtioVsockOptions options, Loop& loop, memory::AddressSpace& memory);
  ~VirtioVsock() override;
  std::string describe() const override;

 private:
  struct Header;
  struct Connection;
  using Key = u64;  // port of the host, port of the guest

  VirtioVsock(VirtioVsockOptions options, Fd listener, Loop& loop, memory::AddressSpace& memory);
  void serve(u16 index) override;
  void activated(u64 features) override;
  void stopping() override;
  void reset_state() override;
  void visit(Archive& archive) override;

  // From the guest.
  void packet(const Chain& chain);
  void connect_out(const Header& header);
  void deliver(Connection& connection, const Header& header, const Chain& chain);
  void guest_shut_down(Connection& connection, u32 flags);
  void flush(Connection& connection);
  void refuse(const Header& header);

  // To the guest.
  void accept_client();
  void read_greeting(Connection& connection);
  void answer_greeting(Connection& connection);
  void say(const Connection& connection, u16 operation, u32 flags = 0);
  void pump();
  bool send_control();
  bool send_data(Connection& connection);
  void announce_reset();

  Connection* find(u32 host_port, u32 guest_port);
  Connection& add(Key key, Fd fd);
  void watch(Connection& connection);
  void socket_event(Key key, u32 events);
  void drop(Key key);
  void drop_all();
  Header header_of(const Connection& connection, u16 operation) const;

  const VirtioVsockOptions options_;
  Fd listener_;
  std::unique_ptr<Loop::Watch> listener_watch_;
  std::map<Key, std::unique_ptr<Connection>> connections_;
  std::deque<std::vector<u8>> control_;   // headers that wait for a buffer
  u32 next_port_ = 1u << 30;              // of the host, for who connects from there
  bool announce_reset_ = false;           // the guest's connections are from another life
  Key turn_ = 0;                          // who sent last: the next one is the one after
  std::vector<u8> scratch_;
};

}  // namespace atl::devices
