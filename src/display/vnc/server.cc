#include "display/vnc/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/sockets.h"
#include "base/strings.h"

namespace atl::display::vnc {
namespace {

constexpr u64 kFrame_ns = 33'000'000, kQuietFrame_ns = 100'000'000;
constexpr int kConnect_ms = 10'000;
constexpr u32 kMotionMisses = 8;   // in a row, before only every eighth change is looked at
constexpr u32 kQuietFrames = 30;   // from which on looking for changes slows down

Result<Fd> open_listener(const Listen& place) {
  if (!place.unix_path.empty()) return listen_unix(place.unix_path);
  const u64 first = parse_u64(place.port).value_or(0);
  auto fd = listen_tcp(place.host, place.port);
  for (u32 i = 1; !fd && i <= place.more_ports; ++i) fd = listen_tcp(place.host, fmt::format("{}", first + i));
  return fd;
}

/// Waits, with a bound.
Status connect_within(const Fd& fd, const sockaddr* address, socklen_t size) {
  if (::connect(fd.get(), address, size) == 0) return {};
  if (errno != EINPROGRESS) return os_error("connect");
  pollfd ready{.fd = fd.get(), .events = POLLOUT, .revents = 0};
  if (::poll(&ready, 1, kConnect_ms) != 1) return os_error("connect", ETIMEDOUT);
  int err = 0;
  socklen_t length = sizeof err;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &err, &length);
  return err ? Status(os_error("connect", err)) : Status{};
}

Result<Fd> connect_to(const Listen& viewer) {
  if (!viewer.unix_path.empty()) {
    const sockaddr_un address = TRY(unix_address(viewer.unix_path));
    Fd fd = TRY(make_socket(AF_UNIX));
    TRY(connect_within(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address).context("viewer at " + viewer.unix_path));
    return fd;
  }
  const AddressList list = TRY(resolve_tcp(viewer.host, viewer.port, false));
  Status last;
  for (const addrinfo* a = list.get(); a; a = a->ai_next) {
    Fd fd = TRY(make_socket(a->ai_family));
    last = connect_within(fd, a->ai_addr, a->ai_addrlen);
    if (last) return fd;
  }
  return std::move(last).context(fmt::format("viewer at {}:{}", viewer.host, viewer.port)).error();
}

}  // namespace

Result<std::unique_ptr<Server>> Server::create(Loop& loop, ServerOptions options, Screen& screen, Input input) {
  std::unique_ptr<Server> server(new Server(loop, std::move(options), screen, std::move(input)));
  const std::vector<Listen> places = server->options_.listen;
  TRY(server->listen(places));
  if (const auto viewer = server->options_.waiting_viewer) TRY(server->call(*viewer));
  return server;
}

Server::Server(Loop& loop, ServerOptions options, Screen& screen, Input input)
    : loop_(loop), options_(std::move(options)), screen_(screen), input_(std::move(input)), timer_(loop, [this] { refresh(); }),
      sweep_(loop, [this] { drop_ended(); }) {
  screen_.draw(picture_);
}

Server::~Server() {
  on_event_ = nullptr;
  connections_.clear();
  close_listeners(listeners_);
}

// -- listening -------------------------------------------------------------------------------------------------------------

Status Server::listen(const std::vector<Listen>& places) {
  std::vector<Listener> fresh;
  for (const Listen& place : places) {
    auto fd = open_listener(place);
    if (!fd) {
      close_listeners(fresh);
      return std::move(fd).error();
    }
    Endpoint at = endpoint_of(fd->get(), false);
    at.websocket = place.websocket;
    fresh.push_back({std::move(at), place.unix_path, std::move(*fd), nullptr});
  }
  listeners_.swap(fresh);
  for (Listener& l : listeners_)  // they stay where they are
    l.watch = std::make_unique<Loop::Watch>(loop_, l.fd.get(), POLLIN, [this, &l](u32) { accept(l); });
  options_.listen = places;
  std::erase_if(fresh, [&](Listener& old) {  // a path that is listened on again stays
    return std::ranges::any_of(listeners_, [&](const Listener& l) { return !l.unix_path.empty() && l.unix_path == old.unix_path; });
  });
  close_listeners(fresh);
  return {};
}

void Server::close_listeners(std::vector<Listener>& listeners) {
  for (const Listener& l : listeners)
    if (!l.unix_path.empty()) ::unlink(l.unix_path.c_str());
  listeners.clear();
}

std::vector<Endpoint> Server::listeners() const {
  std::vector<Endpoint> out;
  for (const Listener& l : listeners_) out.push_back(l.place);
  return out;
}

std::vector<Endpoint> Server::viewers() {
  std::vector<Endpoint> out;
  for (Connection& c : connections_)
    if (c.client().ready() && !c.ended()) out.push_back(c.peer());
  return out;
}

std::string_view Server::auth() const {
  if (options_.settings.tls) return "vencrypt";
  return has_password() ? "vnc" : "none";
}

std::string_view Server::sub_auth() const {
  if (!options_.settings.tls) return "";
  if (options_.settings.anonymous_tls) return has_password() ? "tls-vnc" : "tls-none";
  return has_password() ? "x509-vnc" : "x509-none";
}

// -- viewers ---------------------------------------------------------------------------------------------------------------

void Server::accept(const Listener& listener) {
  Fd fd(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (fd && make_room()) add_connection(std::move(fd), listener.place.websocket, options_.settings);
}

Status Server::call(const Listen& viewer) {
  Fd fd = TRY(connect_to(viewer));
  add_connection(std::move(fd), false, options_.settings);
  return {};
}

Status Server::adopt(Fd fd, bool trusted) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) < 0) return os_error("take a viewer's connection");
  if (!make_room()) return Error(ErrorKind::Busy, "there are as many viewers as may be");
  trusted_ = options_.settings;
  trusted_.password.reset();
  trusted_.tls.reset();
  add_connection(std::move(fd), false, trusted ? trusted_ : options_.settings);
  return {};
}

void Server::add_connection(Fd fd, bool websocket, const Settings& settings) {
  Connection::Events events{.session = [this](Connection& c) { admit(c); },
                            .input = [this](Connection&) { quiet_frames_ = 0; },
                            .ended = [this](Connection& c) {
                              tell(ViewerChange::Disconnected, c.peer());
                              sweep_.schedule();
                            }};
  const bool early_tls = websocket && settings.tls;
  connections_.emplace_back(Connection::Shared{loop_, settings, input_, picture_, cursor_}, std::move(fd), websocket,
                            early_tls ? settings.tls : nullptr, std::move(events));
  tell(ViewerChange::Connected, connections_.back().peer());
  quiet_frames_ = 0;
  if (!timer_.armed()) refresh();
}

/// Who has not come in yet makes way for the next one, the oldest first.
bool Server::make_room() {
  const auto living = std::ranges::count_if(connections_, [](const Connection& c) { return !c.ended(); });
  if (static_cast<size_t>(living) < options_.max_viewers) return true;
  for (Connection& c : connections_) {
    if (c.ended() || c.client().ready()) continue;
    c.end();
    return true;
  }
  return false;
}

/// A viewer that wants the screen for itself sends the others away, if it may.
void Server::admit(Connection& connection) {
  const bool shared = connection.client().shared();
  if (options_.share == SharePolicy::ForceShared && !shared) return connection.end();
  if (options_.share == SharePolicy::AllowExclusive) {
    if (shared && exclusive_) return connection.end();
    if (!shared) {
      for (Connection& other : connections_)
        if (&other != &connection && other.client().ready()) other.end();
      exclusive_ = &connection;
    }
  }
  tell(ViewerChange::Initialized, connection.peer());
}

void Server::drop_ended() {
  if (exclusive_ && exclusive_->ended()) exclusive_ = nullptr;
  connections_.remove_if([](const Connection& c) { return c.ended(); });
}

void Server::tell(ViewerChange::Kind kind, const Endpoint& viewer) {
  if (!on_event_) return;
  auto same = [&](const Listener& l) { return l.place.websocket == viewer.websocket && l.place.family == viewer.family; };
  const auto listener = std::ranges::find_if(listeners_, same);
  on_event_({kind, listener == listeners_.end() ? Endpoint{} : listener->place, viewer, std::string(auth())});
}

// -- the picture -----------------------------------------------------------------------------------------------------------

/// As long as somebody looks; more slowly while nothing happens.
void Server::refresh() {
  if (connections_.empty()) return;
  screen_.draw(fresh_);
  quiet_frames_ = compare() ? 0 : quiet_frames_ + 1;
  update_cursor();
  for (Connection& c : connections_) c.show();
  timer_.arm_in(quiet_frames_ > kQuietFrames ? kQuietFrame_ns : kFrame_ns);
}

void Server::update_cursor() {
  const u64 serial = screen_.cursor_serial();
  if (serial == cursor_serial_) return;
  cursor_serial_ = serial;
  cursor_ = screen_.cursor();
  quiet_frames_ = 0;
  for (Connection& c : connections_) c.client().cursor_changed();
}

/// Tells the viewers what differs between the fresh picture and the last one, which then is the fresh one.
bool Server::compare() {
  if (fresh_.width() != picture_.width() || fresh_.height() != picture_.height()) {
    picture_ = fresh_;
    for (Connection& c : connections_) c.client().resized();
    return true;
  }
  const Rect changed = difference(picture_, fresh_);
  if (changed.height == 0) return false;
  look_for_motion(changed);
  note_difference(changed);
  return true;
}

/// Movements come seldom or often: where none were found, fewer are looked for.
void Server::look_for_motion(const Rect& changed) {
  if (u64{changed.width} * changed.height < kMinMotion) return;
  const bool wanted = std::ranges::any_of(connections_, [](Connection& c) { return c.client().wants_motion(); });
  if (!wanted || (motion_misses_ >= kMotionMisses && ++motion_misses_ % kMotionMisses != 0)) return;
  const auto motion = find_motion(picture_, fresh_, changed);
  motion_misses_ = motion ? 0 : motion_misses_ + 1;
  if (!motion) return;
  apply_motion(picture_, *motion);
  for (Connection& c : connections_) c.client().moved(*motion);
}

/// Tells the viewers which blocks differ, and makes the last picture the fresh one.
void Server::note_difference(const Rect& changed) {
  std::vector<bool> columns;
  for (u32 top = changed.y / kBlock * kBlock; top < changed.y + changed.height; top += kBlock) {
    const u32 bottom = std::min(top + kBlock, fresh_.height());
    columns.assign((fresh_.width() + kBlock - 1) / kBlock, false);
    bool row_differs = false;
    for (u32 y = top; y < bottom; ++y) row_differs |= note_changes(y, columns);
    if (!row_differs) continue;
    for (u32 y = top; y < bottom; ++y) std::ranges::copy(fresh_.row(y), picture_.row(y).begin());
    for (u32 x = 0; x < columns.size(); ++x) {
      const u32 first = x;
      while (x < columns.size() && columns[x]) ++x;
      if (x == first) continue;
      for (Connection& c : connections_) c.client().changed({first * kBlock, top, (x - first) * kBlock, bottom - top});
    }
  }
}

/// Marks the columns of blocks in which this row differs.
bool Server::note_changes(u32 y, std::vector<bool>& columns) const {
  const auto now = fresh_.row(y), before = picture_.row(y);
  if (std::memcmp(now.data(), before.data(), now.size_bytes()) == 0) return false;
  for (u32 x = 0; x < columns.size(); ++x) {
    const u32 left = x * kBlock, width = std::min<u32>(kBlock, static_cast<u32>(now.size()) - left);
    if (!columns[x] && std::memcmp(&now[left], &before[left], width * sizeof(u32)) != 0) columns[x] = true;
  }
  return true;
}

}  // namespace atl::display::vnc
