// The front end's half of the vhost-user protocol: messages over a Unix socket to a process that serves virtqueues from shared
// memory. Specification: "Vhost-user Protocol" of the QEMU project, version 1 messages.
// Supported: features, protocol features REPLY_ACK and CONFIG, memory table, rings with kick and call descriptors, enabling,
// configuration space. Missing: dirty log and migration of the back end, messages of the back end, reconnection, in-flight
// tracking, postcopy.
//
// Threads: one; calls wait for the back end, at most kPatience_ns each.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/types.h"

namespace atl::devices {

class VhostUser {
 public:
  static constexpr u64 kPatience_ns = 20'000'000'000;

  /// Takes over a connected socket and asks what the back end can do.
  static Result<std::unique_ptr<VhostUser>> create(Fd socket);

  /// Of the device and its rings, without what belongs to the protocol.
  u64 features() const { return features_; }
  const Fd& socket() const { return socket_; }
  /// Whether the peer has hung up, or said something that nobody asked for.
  bool is_gone() const;

  /// Memory as both sides name it: addresses in rings and descriptors count as `address` says.
  struct Region {
    u64 address = 0, size = 0;
    u64 offset = 0;  // into the file
    int fd = -1;
  };
  Status set_features(u64 features);
  Status set_memory(std::span<const Region> regions);

  struct Ring {
    u16 index = 0, size = 0;
    u64 descriptors = 0, driver = 0, device = 0;  // addresses
    int kick = -1, call = -1;
  };
  /// Starts a ring that nothing has been taken from, enabled.
  Status start_ring(const Ring& ring);
  /// Stops it; gives how many entries the back end has taken in all, modulo 2^16.
  Result<u16> stop_ring(u16 index);
  Status enable_ring(u16 index, bool on);

  bool has_config() const;
  /// Configuration space from its start.
  Status read_config(std::span<u8> out);
  Status write_config(u32 offset, std::span<const u8> data);

 private:
  explicit VhostUser(Fd socket) : socket_(std::move(socket)) {}
  Status negotiate();
  Status send(u32 request, std::span<const u8> payload, std::span<const int> fds, bool want_reply);
  /// Fills `payload`, whose size the reply must have.
  Status receive(u32 request, std::span<u8> payload);
  Status tell(u32 request, std::span<const u8> payload, std::span<const int> fds = {});
  Status tell_u64(u32 request, u64 value);
  Result<u64> ask_u64(u32 request);
  Status ring_state(u32 request, u16 index, u32 value);

  Fd socket_;
  u64 features_ = 0, protocol_ = 0;
};

}  // namespace atl::devices
