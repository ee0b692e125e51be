#include "display/vnc/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "base/sockets.h"

namespace atl::display::vnc {
namespace {

constexpr u64 kRefresh_ns = 33'000'000;
constexpr size_t kFull = 1 << 20;   // output waiting at which a viewer gets no more

}  // namespace

/// A viewer's socket. Ends by itself; the server sweeps it away at the end of the loop's turn.
struct Server::Connection {
  Connection(Server& s, Fd socket)
      : server(s), fd(std::move(socket)), client(s.options_.settings, s.input_, s.picture_),
        watch(s.loop_, fd.get(), POLLIN, [this](u32 events) { on_ready(events); }) {
    flush();
  }

  void on_ready(u32 events) {
    if (events & POLLIN) receive();
    if (events & (POLLERR | POLLHUP)) end();
    if (!ended && (events & POLLOUT)) flush();
  }
  void receive() {
    std::array<u8, 4096> buffer;
    const ssize_t n = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    const bool good = n > 0 && client.receive({buffer.data(), static_cast<size_t>(n)});
    if (client.ready()) server.admit(*this);
    flush();
    if (!good) end();
  }
  /// Shows what changed, unless the viewer is still busy with what it has.
  void show() {
    if (ended || client.output().size() >= kFull) return;
    client.update();
    flush();
  }
  void flush() {
    std::vector<u8>& out = client.output();
    while (!out.empty()) {
      const ssize_t n = ::send(fd.get(), out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0 && errno != EAGAIN && errno != EINTR) return end();
      if (n < 0) break;
      out.erase(out.begin(), out.begin() + n);
    }
    watch.set_events(out.empty() ? POLLIN : POLLIN | POLLOUT);
  }
  void end() {
    if (std::exchange(ended, true)) return;
    watch.set_events(0);
    server.sweep_.schedule();
  }

  Server& server;
  Fd fd;
  Client client;
  Loop::Watch watch;
  bool admitted = false, ended = false;
};

Result<std::unique_ptr<Server>> Server::create(Loop& loop, ServerOptions options, Screen& screen, Input input) {
  std::unique_ptr<Server> server(new Server(loop, std::move(options), screen, std::move(input)));
  const ServerOptions& o = server->options_;
  server->listener_ = TRY(o.unix_path.empty() ? listen_tcp(o.host, o.port) : listen_unix(o.unix_path));
  server->watch_ = std::make_unique<Loop::Watch>(loop, server->listener_.get(), POLLIN, [s = server.get()](u32) { s->accept(); });
  return server;
}

Server::Server(Loop& loop, ServerOptions options, Screen& screen, Input input)
    : loop_(loop), options_(std::move(options)), screen_(screen), input_(std::move(input)), timer_(loop, [this] { refresh(); }),
      sweep_(loop, [this] { drop_ended(); }) {
  screen_.draw(picture_);
}

Server::~Server() {
  connections_.clear();
  if (!options_.unix_path.empty()) ::unlink(options_.unix_path.c_str());
}

void Server::accept() {
  Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd || connections_.size() >= kMaxViewers) return;
  connections_.emplace_back(*this, std::move(fd));
  if (!timer_.armed()) refresh();
}

/// A viewer that wants the screen for itself sends the others away.
void Server::admit(Connection& connection) {
  if (std::exchange(connection.admitted, true) || connection.client.shared()) return;
  for (Connection& other : connections_)
    if (&other != &connection) other.end();
}

void Server::drop_ended() {
  connections_.remove_if([](const Connection& c) { return c.ended; });
}

/// As long as somebody looks.
void Server::refresh() {
  if (connections_.empty()) return;
  screen_.draw(fresh_);
  compare(fresh_);
  for (Connection& c : connections_) c.show();
  timer_.arm_in(kRefresh_ns);
}

void Server::compare(const Surface& fresh) {
  if (fresh.width() != picture_.width() || fresh.height() != picture_.height()) {
    picture_ = fresh;
    for (Connection& c : connections_) c.client.resized();
    return;
  }
  for (u32 top = 0; top < fresh.height(); top += kTile) {
    const u32 bottom = std::min(top + kTile, fresh.height());
    for (u32 left = 0; left < fresh.width(); left += kTile) {
      const Rect tile{left, top, std::min(kTile, fresh.width() - left), bottom - top};
      bool differs = false;
      for (u32 y = top; y < bottom && !differs; ++y)
        differs = !std::ranges::equal(fresh.row(y).subspan(left, tile.width), picture_.row(y).subspan(left, tile.width));
      if (!differs) continue;
      for (u32 y = top; y < bottom; ++y)
        std::ranges::copy(fresh.row(y).subspan(left, tile.width), picture_.row(y).subspan(left, tile.width).begin());
      for (Connection& c : connections_) c.client.changed(tile);
    }
  }
}

}  // namespace atl::display::vnc
