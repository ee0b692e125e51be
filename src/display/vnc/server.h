// The remote screen: viewers over TCP, a Unix socket or WebSockets see one Screen and move its keyboard and pointer.
//
// Supported: what handshake.h, client.h and updates.h name, several viewers with a policy for exclusive ones, bounded memory
// for those that do not read, a bound for viewers and for those that never come in. A viewer that listens is connected to, once.
// Thread: the loop's.
#pragma once

#include <list>
#include <memory>
#include <optional>

#include "display/vnc/connection.h"

namespace atl::display::vnc {

struct Listen {
  std::string unix_path;          // or
  std::string host, port;         // host "" = every interface
  u32 more_ports = 0;             // tried one after the other if the port is taken
  bool websocket = false;
};

enum class SharePolicy : u8 { AllowExclusive, ForceShared, Ignore };

struct ServerOptions {
  std::vector<Listen> listen;
  std::optional<Listen> waiting_viewer;   // is connected to
  SharePolicy share = SharePolicy::AllowExclusive;
  u32 max_viewers = 32;
  Settings settings;
};

/// A viewer that came or went.
struct ViewerChange {
  enum Kind : u8 { Connected, Initialized, Disconnected } kind;
  Endpoint server, viewer;
  std::string auth;   // as Server::auth() has it
};

class Server {
 public:
  /// `screen` outlives the server. The error names the address.
  static Result<std::unique_ptr<Server>> create(Loop& loop, ServerOptions options, Screen& screen, Input input);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void set_event_handler(std::function<void(const ViewerChange&)> handler) { on_event_ = std::move(handler); }
  /// New viewers must know it; "" lets nobody in.
  void set_password(std::string password) { options_.settings.password = std::move(password); }
  /// "none", "vnc", "vencrypt"; then sub_auth() is "x509-vnc" and the like.
  std::string_view auth() const;
  std::string_view sub_auth() const;
  bool has_password() const { return options_.settings.password.has_value(); }
  /// Seconds since the epoch; 0: never.
  void set_password_end(i64 seconds) { options_.settings.password_ends = seconds; }
  void set_credentials(std::shared_ptr<const TlsCredentials> credentials) { options_.settings.tls = std::move(credentials); }
  /// Listens there instead; on an error everything is as before.
  Status listen(const std::vector<Listen>& places);

  /// Takes a connected socket for a viewer's; without authentication and encryption if told so. The error says that there are too many.
  Status adopt(Fd fd, bool trusted);

  std::vector<Endpoint> listeners() const;
  /// Those that have come in.
  std::vector<Endpoint> viewers();
  const ServerOptions& options() const { return options_; }
  const Surface& picture() const { return picture_; }

 private:
  struct Listener {
    Endpoint place;
    std::string unix_path;
    Fd fd;
    std::unique_ptr<Loop::Watch> watch;
  };

  Server(Loop& loop, ServerOptions options, Screen& screen, Input input);
  void close_listeners(std::vector<Listener>& listeners);
  void accept(const Listener& listener);
  Status call(const Listen& viewer);
  void add_connection(Fd fd, bool websocket, const Settings& settings);
  bool make_room();
  void admit(Connection& connection);
  void drop_ended();
  void refresh();
  bool compare();
  void look_for_motion(const Rect& changed);
  void note_difference(const Rect& changed);
  bool note_changes(u32 y, std::vector<bool>& columns) const;
  void update_cursor();
  void tell(ViewerChange::Kind kind, const Endpoint& viewer);

  Loop& loop_;
  ServerOptions options_;
  Settings trusted_;            // of viewers that need not prove who they are
  Screen& screen_;
  const Input input_;
  std::function<void(const ViewerChange&)> on_event_;
  std::vector<Listener> listeners_;
  Surface picture_, fresh_;
  CursorShape cursor_;
  u64 cursor_serial_ = 0;
  u32 quiet_frames_ = 0;        // without a change, in a row
  u32 motion_misses_ = 0;       // changes in a row that were no movement
  std::list<Connection> connections_;
  Connection* exclusive_ = nullptr;
  Loop::Timer timer_;
  Loop::Deferred sweep_;
};

}  // namespace atl::display::vnc
