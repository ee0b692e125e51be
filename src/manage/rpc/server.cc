#include "manage/rpc/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/log.h"
#include "manage/daemon.h"
#include "manage/rpc/tls_transport.h"

namespace atl::manage::rpc {

namespace {

/// Who is at the other end, as far as the kernel knows.
Peer peer_of(int fd) {
  Peer peer;
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) < 0 || address.ss_family != AF_UNIX)
    return peer;
  ucred credentials{};
  length = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return peer;
  peer.local = true;
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  peer.pid = credentials.pid;
  return peer;
}

atl::Result<std::unique_ptr<Transport>> make_transport(Fd socket, const ListenOptions& options) {
  if (!options.tls) return std::make_unique<Transport>(std::move(socket));
  return TRY(TlsTransport::create(std::move(socket), options.tls, options.tls_names));
}

}  // namespace

atl::Result<std::unique_ptr<Server>> Server::create(Loop& loop, Daemon& daemon, const Limits& limits) {
  std::unique_ptr<Server> server(new Server(loop, daemon, limits));
  server->workers_ = TRY(WorkerPool::start("rpc", limits.workers));
  server->quick_ = TRY(WorkerPool::start("rpc-quick", limits.quick_workers));
  return server;
}

Server::~Server() {
  listeners_.clear();
  clients_changed_ = {};
  std::list<std::shared_ptr<Connection>> all;
  all.swap(connections_);
  for (auto& connection : all) connection->close();
  std::ranges::copy(all, std::back_inserter(ending_));
  all.clear();
  auto still_runs = [this] { return std::ranges::any_of(ending_, [](auto& weak) { return !weak.expired(); }); };
  while (still_runs()) loop_.run_once(100'000'000);
}

Events& Server::events() { return daemon_.events(); }

void Server::listen(Fd socket, const ListenOptions& options) {
  Listener& listener = listeners_.emplace_back(std::move(socket), options, nullptr);
  listener.watch = std::make_unique<Loop::Watch>(loop_, listener.socket.get(), POLLIN,
                                                 [this, &listener](u32) { accept_one(listener); });
}

void Server::accept_one(Listener& listener) {
  Fd fd(::accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) return;
  Peer peer = peer_of(fd.get());
  peer.encrypted = listener.options.tls != nullptr;
  auto transport = make_transport(std::move(fd), listener.options);
  if (!transport) return log_warning("{}", transport.error().text());
  auto session = std::make_shared<Session>(++last_id_, peer, listener.options.read_only, listener.options.auth);
  connections_.push_back(std::make_shared<Connection>(*this, *std::move(transport), std::move(session)));
  connections_.back()->begin();
  update_listeners();
}

void Server::update_listeners() {
  auto is_anonymous = [](auto& connection) { return connection->is_anonymous(); };
  bool has_room =
      connections_.size() < limits_.max_clients &&
      std::ranges::count_if(connections_, is_anonymous) < static_cast<ptrdiff_t>(limits_.max_anonymous_clients);
  for (Listener& listener : listeners_) listener.watch->set_events(has_room ? POLLIN : 0);
  if (clients_changed_) clients_changed_();
}

void Server::connection_closed(Connection& connection) {
  auto found = std::ranges::find_if(connections_, [&](auto& c) { return c.get() == &connection; });
  if (found == connections_.end()) return;
  std::erase_if(ending_, [](auto& weak) { return weak.expired(); });
  ending_.push_back(*found);
  // The caller may be a callback of the connection's own: it is freed at the loop's next turn.
  loop_.post([keep = *found] {});
  connections_.erase(found);
  update_listeners();
}

}  // namespace atl::manage::rpc
