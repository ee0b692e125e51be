// A viewer's socket and what lies between it and the protocol: TLS, WebSocket, both, or nothing.
//
// A viewer that does not read gets no pictures, and nothing is read from it while answers wait: memory stays bounded.
// Thread: the loop's.
#pragma once

#include <memory>
#include <string>

#include "base/fd.h"
#include "base/loop.h"
#include "base/tls.h"
#include "display/vnc/client.h"
#include "display/vnc/websocket.h"

namespace atl::display::vnc {

/// Who is at the other end of a connection, or listens at one.
struct Endpoint {
  std::string host, service;   // a Unix socket's path is its service
  std::string family;          // "ipv4", "ipv6", "unix"
  bool websocket = false;
};
/// Of a bound or connected socket.
Endpoint endpoint_of(int fd, bool peer);

class Connection {
 public:
  struct Events {
    std::function<void(Connection&)> session;   // the viewer has come in; may end it
    std::function<void(Connection&)> input;     // it said something
    std::function<void(Connection&)> ended;     // to be swept away, later
  };
  struct Shared {
    Loop& loop;
    const Settings& settings;
    const Input& hands;
    const Surface& picture;
    const CursorShape& cursor;
  };
  /// `credentials`: TLS from the first byte on.
  Connection(const Shared& shared, Fd socket, bool websocket, std::shared_ptr<const TlsCredentials> credentials, Events events);

  /// Shows what changed, unless the viewer is still busy with what it has.
  void show();
  void end();
  bool ended() const { return ended_; }
  Client& client() { return client_; }
  const Endpoint& peer() const { return peer_; }

 private:
  void on_ready(u32 events);
  void receive();
  bool take_wire(std::span<const u8> bytes);
  bool take_ciphertext(std::span<const u8> bytes);
  bool take_plain(std::span<const u8> bytes);
  bool take_content(std::span<const u8> bytes);
  bool begin_tls(const std::shared_ptr<const TlsCredentials>& credentials);
  bool shake_hands();
  bool put_plain(std::span<const u8> bytes);
  void pump();
  void flush();
  size_t waiting() const { return wire_.size() - sent_; }

  const Settings& settings_;
  const Fd fd_;
  Endpoint peer_;
  Events events_;
  std::unique_ptr<WebSocket> websocket_;
  std::unique_ptr<TlsSession> tls_;
  bool tls_up_ = false, in_session_ = false, ended_ = false;
  Client client_;
  std::vector<u8> wire_;    // for the socket
  size_t sent_ = 0;         // of wire_
  Loop::Watch watch_;
};

}  // namespace atl::display::vnc
