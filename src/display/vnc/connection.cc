#include "display/vnc/connection.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <utility>

namespace atl::display::vnc {
namespace {

constexpr size_t kFull = 1 << 20;   // output waiting from which on nothing more is read
constexpr size_t kPiece = 16384;

}  // namespace

Endpoint endpoint_of(int fd, bool peer) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* general = reinterpret_cast<sockaddr*>(&address);
  if ((peer ? ::getpeername(fd, general, &size) : ::getsockname(fd, general, &size)) < 0) return {};
  if (address.ss_family == AF_UNIX) {
    const auto* local = reinterpret_cast<const sockaddr_un*>(&address);
    return {"", std::string(local->sun_path, ::strnlen(local->sun_path, sizeof local->sun_path)), "unix", false};
  }
  char host[NI_MAXHOST] = "", service[NI_MAXSERV] = "";
  ::getnameinfo(general, size, host, sizeof host, service, sizeof service, NI_NUMERICHOST | NI_NUMERICSERV);
  return {host, service, address.ss_family == AF_INET6 ? "ipv6" : "ipv4", false};
}

Connection::Connection(const Shared& shared, Fd socket, bool websocket, std::shared_ptr<const TlsCredentials> credentials, Events events)
    : settings_(shared.settings), fd_(std::move(socket)), peer_(endpoint_of(fd_.get(), true)), events_(std::move(events)),
      websocket_(websocket ? std::make_unique<WebSocket>() : nullptr),
      client_(shared.settings, shared.hands, shared.picture, shared.cursor, credentials != nullptr),
      watch_(shared.loop, fd_.get(), POLLIN, [this](u32 ready) { on_ready(ready); }) {
  peer_.websocket = websocket;
  if (credentials && !begin_tls(credentials)) end();
  flush();
}

void Connection::on_ready(u32 events) {
  if (ended_) return;
  if (events & POLLIN) receive();
  if (events & (POLLERR | POLLHUP)) end();
  if (!ended_ && (events & POLLOUT)) flush();
}

void Connection::receive() {
  std::array<u8, kPiece> buffer;
  const ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  const bool good = n > 0 && take_wire({buffer.data(), static_cast<size_t>(n)});
  if (good && client_.ready() && !std::exchange(in_session_, true)) events_.session(*this);
  if (good && !ended_) events_.input(*this);
  flush();  // a reason for the end goes out, too
  if (!good) end();
}

bool Connection::take_wire(std::span<const u8> bytes) { return tls_ ? take_ciphertext(bytes) : take_plain(bytes); }

bool Connection::take_ciphertext(std::span<const u8> bytes) {
  tls_->put_input(bytes);
  if (!tls_up_ && !shake_hands()) return false;
  std::array<u8, kPiece> plain;
  while (tls_up_) {
    auto n = tls_->read(plain);
    if (!n) return false;
    if (*n == 0) break;
    if (!take_plain({plain.data(), *n})) return false;
  }
  return true;
}

bool Connection::take_plain(std::span<const u8> bytes) {
  if (!websocket_) return take_content(bytes);
  std::vector<u8> content, answer;
  const bool good = websocket_->receive(bytes, content, answer);
  return put_plain(answer) && good && (content.empty() || take_content(content));
}

bool Connection::take_content(std::span<const u8> bytes) {
  if (!client_.receive(bytes)) return false;
  if (!client_.wants_tls() || tls_) return true;
  pump();
  return begin_tls(settings_.tls);
}

bool Connection::begin_tls(const std::shared_ptr<const TlsCredentials>& credentials) {
  auto session = TlsSession::create(credentials, "");
  if (!session) return false;
  tls_ = std::move(*session);
  return true;
}

bool Connection::shake_hands() {
  auto step = tls_->handshake();
  const std::string out = tls_->take_output();  // an alert that says what is wrong, too
  wire_.insert(wire_.end(), out.begin(), out.end());
  if (!step) return false;
  if (*step == TlsSession::Step::NeedsInput) return true;
  tls_up_ = true;
  return !client_.wants_tls() || client_.tls_done();
}

/// Bytes below the WebSocket: encrypted, or as they are.
bool Connection::put_plain(std::span<const u8> bytes) {
  if (!tls_ || bytes.empty()) {
    wire_.insert(wire_.end(), bytes.begin(), bytes.end());
    return true;
  }
  if (!tls_->write(bytes)) return false;
  const std::string out = tls_->take_output();
  wire_.insert(wire_.end(), out.begin(), out.end());
  return true;
}

/// What the protocol says goes down to the socket's buffer, as soon as the layers between are there.
void Connection::pump() {
  std::vector<u8>& out = client_.output();
  if (out.empty() || (tls_ && !tls_up_) || (websocket_ && !websocket_->is_open())) return;
  if (websocket_) {
    std::vector<u8> framed;
    WebSocket::frame(out, framed);
    if (!put_plain(framed)) end();
  } else if (!tls_ && wire_.empty()) {
    wire_.swap(out);
  } else if (!put_plain(out)) {
    end();
  }
  out.clear();
}

void Connection::flush() {
  if (ended_) return;
  if (waiting() == 0) {
    wire_.clear();
    sent_ = 0;
  }
  pump();
  while (waiting() > 0) {
    const ssize_t n = ::send(fd_.get(), wire_.data() + sent_, waiting(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return end();
    if (n < 0) break;
    sent_ += static_cast<size_t>(n);
  }
  watch_.set_events((waiting() < kFull ? POLLIN : 0) | (waiting() > 0 ? POLLOUT : 0));
}

void Connection::show() {
  if (ended_ || waiting() > 0) return;
  client_.update();
  flush();
}

void Connection::end() {
  if (std::exchange(ended_, true)) return;
  watch_.set_events(0);
  ::shutdown(fd_.get(), SHUT_RDWR);
  events_.ended(*this);
}

}  // namespace atl::display::vnc
