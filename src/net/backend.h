// What a NIC is plugged into: a source and sink of Ethernet frames. Knows no guest.
#pragma once

#include <sys/uio.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/loop.h"
#include "base/result.h"
#include "base/types.h"

namespace atl::net {

/// Offload header that may precede frames: virtio_net_hdr (virtio 1.2, section 5.1.6), 12 bytes with num_buffers.
inline constexpr u32 kVnetHeaderBytes = 12;

/// Offloads that a back end can take from or give to the guest (TUN_F_* of <linux/if_tun.h> for the second group).
struct Offloads {
  bool checksum = false, tso4 = false, tso6 = false, ufo = false, ecn = false;
};

/// Receives frames from a back end, on the back end's loop.
class FrameSink {
 public:
  virtual ~FrameSink() = default;
  /// Takes one frame (with a vnet header in front if the back end has one), or returns false: no room now. The back end
  /// then holds back until Backend::resume_receive().
  virtual bool receive(std::span<const iovec> frame) = 0;
  /// No more frames for now: the moment to tell the guest about those taken since the last call.
  virtual void received_batch() {}
};

struct HostForward;

/// Calls on its loop's thread only.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual void set_sink(FrameSink* sink) = 0;
  /// Sends one frame from the guest. False: it was dropped (counted).
  virtual bool send(std::span<const iovec> frame) = 0;
  /// No more frames for now: the back end acts on what it put off during send().
  virtual void flush() {}
  virtual void resume_receive() = 0;
  /// Whether frames carry a vnet header in both directions.
  virtual bool has_vnet_header() const = 0;
  /// What the back end can do; set_offloads tells what the guest accepts.
  virtual Offloads offloads() const = 0;
  virtual void set_offloads(const Offloads& guest) = 0;
  /// Ports of the host that lead to the guest, at run time: user-mode networks only.
  virtual Status add_forward(const HostForward&) { return Error(ErrorKind::Invalid, "this is no user-mode network"); }
  virtual Status remove_forward(const HostForward& rule) { return add_forward(rule); }
  /// One line for `info network`.
  virtual std::string describe() const = 0;
  virtual Loop& loop() = 0;
  /// Called (on the loop) when the back end died and will carry nothing any more.
  std::function<void(std::string why)> on_failure;
};

struct HostForward {
  bool udp = false;
  std::string host_address;   // "" = any
  u16 host_port = 0;
  std::string guest_address;  // "" = the first DHCP address
  u16 guest_port = 0;
};

/// Connections of the guest to this address and port talk to a program, one each.
struct GuestForward {
  std::string guest_address;
  u16 guest_port = 0;
  std::string command;
};

/// User-mode networking through libslirp.
struct UserOptions {
  std::string id;
  std::string net = "10.0.2.0/24";
  std::string host, dns, dhcp_start;  // "" = derived from net
  std::string hostname, domain, tftp, bootfile;
  bool restricted = false;
  bool ipv4 = true, ipv6 = true;
  std::vector<HostForward> forwards;
  std::vector<GuestForward> guest_forwards;
};
Result<std::unique_ptr<Backend>> create_user_backend(Loop& loop, const UserOptions& options);

struct TapOptions {
  std::string id;
  std::string ifname;              // "" = the kernel's choice
  int fd = -1;                     // instead of ifname; owned by the back end
  std::string script, downscript;  // "" or "no": none
  bool vnet_header = true;
};
Result<std::unique_ptr<Backend>> create_tap_backend(Loop& loop, const TapOptions& options);

/// One end of a wire to another program: a stream of frames with their lengths, or a datagram a frame.
struct SocketOptions {
  enum class Kind : u8 { Listen, Connect, Datagram, Multicast, Adopted };
  struct Address {
    std::string host, port;  // of the Internet; an empty host is any, or this machine
    std::string path;        // of a Unix socket, instead
    bool empty() const { return host.empty() && port.empty() && path.empty(); }
  };
  std::string id;
  Kind kind = Kind::Connect;
  Address local;             // where to listen or to be bound
  Address remote;            // where to connect, or to send to
  int fd = -1;               // of Adopted; owned by the back end
  u64 reconnect_s = 0;       // a connection that is lost is made again after so long; 0: never
};
Result<std::unique_ptr<Backend>> create_socket_backend(Loop& loop, const SocketOptions& options);

/// A port of a hub, where every frame goes to all other ports. For a card; or, with `netdev`, for another back end.
struct HubPortOptions {
  std::string id;
  u32 hub = 0;
  std::string netdev = "";
};

}  // namespace atl::net
