// Listening sockets, connections and worker threads of the RPC server. Lives on one loop: the program's main one.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/loop.h"
#include "base/sockets.h"
#include "base/worker_pool.h"
#include "base/tls.h"
#include "manage/rpc/connection.h"
#include "manage/rpc/limits.h"

namespace atl::manage {
class Daemon;
class Events;
}  // namespace atl::manage

namespace atl::manage::rpc {

/// One socket to listen on.
struct ListenOptions {
  bool read_only = false;
  Auth auth = Auth::None;
  std::shared_ptr<const TlsCredentials> tls = {};  // null: in the clear
  std::vector<std::string> tls_names = {};    // who may come in, as fnmatch(3) patterns; empty: whom the CA has signed
};

class Server {
 public:
  static atl::Result<std::unique_ptr<Server>> create(Loop& loop, Daemon& daemon, const Limits& limits);
  /// Connections are closed; running calls are waited for.
  ~Server();

  /// Serves clients of a listening socket.
  void listen(Fd socket, const ListenOptions& options);
  /// How many clients there are now.
  size_t client_count() const { return connections_.size(); }
  /// Called on the loop whenever the number of clients has changed.
  void on_clients_changed(std::function<void()> callback) { clients_changed_ = std::move(callback); }

  // For connections.
  Loop& loop() { return loop_; }
  Daemon& daemon() { return daemon_; }
  Events& events();
  const Limits& limits() const { return limits_; }
  WorkerPool& workers(Where where) { return where == Where::Quick ? *quick_ : *workers_; }
  void connection_closed(Connection& connection);
  /// Listens or does not, by how many clients there are and how many of them have not said who they are.
  void update_listeners();

 private:
  struct Listener {
    Fd socket;
    ListenOptions options;
    std::unique_ptr<Loop::Watch> watch;
  };

  Server(Loop& loop, Daemon& daemon, const Limits& limits) : loop_(loop), daemon_(daemon), limits_(limits) {}
  void accept_one(Listener& listener);

  Loop& loop_;
  Daemon& daemon_;
  const Limits limits_;
  std::unique_ptr<WorkerPool> workers_, quick_;
  std::list<Listener> listeners_;
  std::list<std::shared_ptr<Connection>> connections_;
  std::vector<std::weak_ptr<Connection>> ending_;  // closed, with calls that still run
  std::function<void()> clients_changed_;
  u64 last_id_ = 0;
};

}  // namespace atl::manage::rpc
