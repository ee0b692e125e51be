#include "block/nbd/server.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "block/nbd/server_session.h"

namespace atl::block::nbd {

Server::Server(Loop& loop, Options options) : loop_(loop), options_(std::move(options)) {}

Server::~Server() {
  stop();
  for (Session* session : sessions_) session->forget_server();
}

Status Server::listen(const Address& address) {
  listen_on(TRY(listen_at(address)));
  return {};
}

void Server::listen_on(Fd socket) {
  auto listener = std::make_unique<Listener>();
  int fd = socket.get();
  listener->socket = std::move(socket);
  listener->watch = std::make_unique<Loop::Watch>(loop_, fd, POLLIN, [this, fd](u32) { accept_clients(fd); });
  listeners_.push_back(std::move(listener));
}

void Server::accept_clients(int socket) {
  while (!stopping_ && (!options_.max_clients || sessions_.size() < options_.max_clients)) {
    Fd client(::accept4(socket, nullptr, nullptr, SOCK_CLOEXEC));
    if (!client.valid()) break;
    serve(std::move(client));
  }
  update_watches();
}

void Server::serve(Fd socket) {
  int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // fails on Unix sockets, which need it not
  auto session = std::make_shared<Session>(loop_, *this, std::move(socket), options_.tls);
  sessions_.insert(session.get());
  Session::run(std::move(session));
}

/// Listens only while another client fits.
void Server::update_watches() {
  bool room = !stopping_ && (!options_.max_clients || sessions_.size() < options_.max_clients);
  for (auto& listener : listeners_) listener->watch->set_events(room ? POLLIN : 0);
}

void Server::left(Session* session) {
  sessions_.erase(session);
  update_watches();
  if (on_client_left) on_client_left();
}

Status Server::add_export(Export exported) {
  std::string name = exported.name;
  if (name.size() > kMaxString) return Error(ErrorKind::Invalid, fmt::format("export name '{}' is too long", name));
  auto [at, added] = exports_.try_emplace(name, std::make_shared<const Export>(std::move(exported)));
  if (!added) return Error(ErrorKind::Exists, fmt::format("NBD server already has export named '{}'", name));
  return {};
}

Status Server::remove_export(const std::string& name, bool force) {
  auto found = exports_.find(name);
  if (found == exports_.end()) return Error(ErrorKind::NotFound, fmt::format("Export '{}' is not found", name));
  for (Session* session : sessions_) {
    if (session->exported() != found->second) continue;
    if (!force) return Error(ErrorKind::Busy, fmt::format("export '{}' still in use", name));
    session->shutdown();
  }
  exports_.erase(found);
  return {};
}

std::shared_ptr<const Export> Server::find_export(const std::string& name) const {
  auto found = exports_.find(name);
  return found == exports_.end() ? nullptr : found->second;
}

void Server::stop() {
  stopping_ = true;
  listeners_.clear();
  for (Session* session : sessions_) session->shutdown();
}

}  // namespace atl::block::nbd
