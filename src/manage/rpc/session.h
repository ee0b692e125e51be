// What a connection is to the rest of the daemon: who the client is, what it may do, and a way to send to it from any thread.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/types.h"

namespace atl::manage {

namespace rpc {
class SaslSession;
}

/// How a client says who it is.
enum class Auth : u8 { None, Sasl };

/// Who is at the other end.
struct Peer {
  bool local = false;           // a Unix socket: uid, gid and pid are the kernel's word
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
  pid_t pid = -1;
  bool encrypted = false;       // TLS
};

/// Lives as long as anybody holds it, longer than the connection maybe; sending is then a no-op. Any thread.
class Session {
 public:
  using Send = std::function<void(std::vector<u8> frame)>;
  Session(u64 id, Peer peer, bool read_only, Auth auth)
      : id_(id), peer_(peer), read_only_(read_only), auth_(auth), authenticated_(auth == Auth::None) {}
  /// `send` queues a frame, callable from any thread. Once, before others know the session.
  void set_send(Send send) { send_ = std::move(send); }

  u64 id() const { return id_; }
  const Peer& peer() const { return peer_; }
  bool read_only() const { return read_only_; }
  void make_read_only() { read_only_ = true; }
  bool is_open() const { return open_; }
  void set_open(bool on) { open_ = on; }
  Auth auth() const { return auth_; }
  bool is_authenticated() const { return authenticated_; }
  void set_authenticated() { authenticated_ = true; }
  bool wants_keepalive() const { return keepalive_; }
  void want_keepalive() { keepalive_ = true; }
  /// The login under way; null before its first call, which makes it.
  const std::shared_ptr<rpc::SaslSession>& sasl() const { return sasl_; }
  void set_sasl(std::shared_ptr<rpc::SaslSession> sasl) { sasl_ = std::move(sasl); }
  i32 next_callback_id() { return callback_id_++; }
  void send_frame(std::vector<u8> frame) const { send_(std::move(frame)); }

 private:
  const u64 id_;
  const Peer peer_;
  std::atomic<bool> read_only_;
  std::atomic<bool> open_ = false;
  const Auth auth_;
  std::atomic<bool> authenticated_;
  std::shared_ptr<rpc::SaslSession> sasl_;  // the server's loop
  std::atomic<bool> keepalive_ = false;
  std::atomic<i32> callback_id_ = 0;
  Send send_;
};

}  // namespace atl::manage
