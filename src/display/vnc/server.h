// The remote screen: viewers over TCP or a Unix socket see one Screen and move its keyboard and pointer (RFC 6143).
//
// Supported: RFB 3.3, 3.7 and 3.8, no or VNC authentication, Raw and ZRLE, desktop size, QEMU's extended key events, several
// viewers, bounded memory for those that do not read. Missing: TLS, Tight, cursor shapes, WebSocket, clipboard.
// Thread: the loop's.
#pragma once

#include <list>
#include <memory>

#include "base/fd.h"
#include "base/loop.h"
#include "display/screen.h"
#include "display/vnc/client.h"

namespace atl::display::vnc {

struct ServerOptions {
  std::string unix_path;          // or
  std::string host, port;         // host "" = every interface
  Settings settings;
};

class Server {
 public:
  /// `screen` outlives the server. The error names the address.
  static Result<std::unique_ptr<Server>> create(Loop& loop, ServerOptions options, Screen& screen, Input input);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// New viewers must know it; "" lets nobody in.
  void set_password(std::string password) { options_.settings.password = std::move(password); }
  bool has_password() const { return options_.settings.password.has_value(); }
  size_t viewers() const { return connections_.size(); }
  const ServerOptions& options() const { return options_; }

 private:
  static constexpr size_t kMaxViewers = 16;
  struct Connection;

  Server(Loop& loop, ServerOptions options, Screen& screen, Input input);
  void accept();
  void admit(Connection& connection);
  void drop_ended();
  void refresh();
  void compare(const Surface& fresh);

  Loop& loop_;
  ServerOptions options_;
  Screen& screen_;
  const Input input_;
  Fd listener_;
  std::unique_ptr<Loop::Watch> watch_;
  std::list<Connection> connections_;
  Surface picture_, fresh_;
  Loop::Timer timer_;
  Loop::Deferred sweep_;
};

}  // namespace atl::display::vnc
