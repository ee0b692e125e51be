// A stream socket, Unix or TCP, as server (one client at a time) or client (with reconnection on request).
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <fmt/format.h>

#include "base/log.h"
#include "base/sockets.h"
#include "control/chardev/channel.h"
#include "control/chardev/chardev.h"
#include "control/chardev/telnet.h"

namespace atl::control {
namespace {

std::string address_text(const ChardevConfig& config) {
  if (config.telnet) return fmt::format("telnet:{}:{}", config.host, config.port);
  if (!config.path.empty()) return "unix:" + config.path;
  if (config.fd >= 0) return fmt::format("fd:{}", config.fd);
  return fmt::format("tcp:{}:{}", config.host, config.port);
}

// Waits for the outcome of a connect() on a non-blocking socket.
int finish_connect(const Fd& fd) {
  pollfd ready{fd.get(), POLLOUT, 0};
  if (::poll(&ready, 1, 10'000) <= 0) return ETIMEDOUT;
  int err = 0;
  socklen_t size = sizeof err;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &err, &size);
  return err;
}

int connect_to(const Fd& fd, const sockaddr* address, socklen_t size) {
  if (::connect(fd.get(), address, size) == 0) return 0;
  return errno == EINPROGRESS ? finish_connect(fd) : errno;
}

Result<Fd> connect_socket(const ChardevConfig& config) {
  if (!config.path.empty()) {
    sockaddr_un address = TRY(unix_address(config.path));
    Fd fd = TRY(make_socket(AF_UNIX));
    int err = connect_to(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
    if (err != 0) return os_error(fmt::format("Failed to connect to '{}'", config.path), err);
    return fd;
  }
  AddressList list = TRY(resolve_tcp(config.host, config.port, false));
  int err = EADDRNOTAVAIL;
  for (addrinfo* a = list.get(); a; a = a->ai_next) {
    Fd fd = TRY(make_socket(a->ai_family));
    err = connect_to(fd, a->ai_addr, a->ai_addrlen);
    if (err == 0) return fd;
  }
  return os_error(fmt::format("Failed to connect to '{}:{}'", config.host, config.port), err);
}

// An inherited socket: must be one, and becomes ours.
Result<Fd> adopt_socket(int number) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
    return os_error(fmt::format("File descriptor '{}' is not a socket", number));
  ::fcntl(number, F_SETFD, FD_CLOEXEC);
  ::fcntl(number, F_SETFL, ::fcntl(number, F_GETFL) | O_NONBLOCK);
  return Fd(number);
}

class SocketChardev final : public Chardev {
 public:
  SocketChardev(const ChardevConfig& config, std::unique_ptr<Channel> channel)
      : config_(config), channel_(std::move(channel)), retry_(channel_->loop(), [this] { reconnect(); }) {
    channel_->discard_while_closed(true);
    channel_->on_closed([this] { connection_ended(); });
  }
  ~SocketChardev() override {
    if (owns_path_) ::unlink(config_.path.c_str());
  }

  Status open() {
    if (config_.server) return open_server();
    if (config_.fd >= 0) {
      take_connection(TRY(adopt_socket(config_.fd)));
      return {};
    }
    auto fd = connect_socket(config_);
    if (fd) take_connection(std::move(*fd));
    else if (config_.reconnect_seconds == 0) return std::move(fd).error();
    else retry_later();
    return {};
  }

  void attach(Frontend frontend) override {
    channel_->set_frontend(config_.telnet ? behind_telnet(std::move(frontend)) : std::move(frontend));
    if (channel_->is_open()) channel_->notify(CharEvent::Opened);
  }
  void detach() override { channel_->set_frontend({}); }
  size_t write(std::span<const u8> data) override { return channel_->write(data); }
  void accept_input() override { channel_->accept_input(); }
  Result<Fd> take_connection() override {
    auto refuse = [&](std::string_view why) { return Error(ErrorKind::Unsupported, fmt::format("chardev '{}': {}", config_.id, why)); };
    if (config_.path.empty() && config_.fd < 0) return refuse("descriptors cannot be passed over TCP");
    if (config_.reconnect_seconds) return refuse("reconnect= is not supported for a vhost-user connection");
    if (config_.server && !connection_) TRY(wait_for_client());
    if (!connection_) return refuse("is not connected, or in use");
    channel_->close();
    taken_ = true;
    return std::move(connection_);
  }
  const std::string& id() const override { return config_.id; }
  std::string describe() const override {
    std::string text = address_text(config_) + (config_.server ? ",server=on" : "");
    return channel_->is_open() || taken_ ? text : "disconnected:" + text;
  }
  bool has_frontend() const override { return channel_->has_frontend() || taken_; }
  void drain(u64 timeout_ns) override { channel_->drain(timeout_ns); }
  bool is_waiting() const override { return config_.server && config_.wait && !had_client_; }
  Fd take_received_fd() override { return channel_->take_received_fd(); }
  Status add_client(Fd fd) override {
    if (!config_.server || connection_ || taken_) return Error(ErrorKind::Busy, fmt::format("chardev '{}' is a client, or has one", config_.id));
    take_connection(TRY(adopt_socket(fd.release())));
    return {};
  }
  bool has_connection() const override { return true; }
  void cut_connection() override {
    if (connection_) ::shutdown(connection_.get(), SHUT_RDWR);
  }
  bool can_be_exchanged() const override { return !taken_; }

 private:
  Frontend behind_telnet(Frontend frontend) {
    auto receive = [this, receive = frontend.receive, event = frontend.event](std::span<const u8> data) {
      const auto decoded = telnet_.feed(data);
      if (decoded.break_sent && event) event(CharEvent::Break);
      if (!decoded.text.empty() && receive) receive({reinterpret_cast<const u8*>(decoded.text.data()), decoded.text.size()});
    };
    frontend.receive = std::move(receive);
    return frontend;
  }

  Status open_server() {
    if (config_.fd >= 0) listener_ = TRY(adopt_socket(config_.fd));
    else if (config_.is_tcp()) listener_ = TRY(listen_tcp(config_.host, config_.port));
    else listener_ = TRY(listen_unix(config_.path));
    owns_path_ = !config_.path.empty();
    listen();
    if (config_.wait) log_info("info: waiting for connection on: {}", describe());
    return {};
  }

  void listen() {
    listen_watch_ = std::make_unique<Loop::Watch>(channel_->loop(), listener_.get(), POLLIN, [this](u32) { accept_client(); });
  }

  Status wait_for_client() {
    constexpr int kPatience_ms = 60'000;
    pollfd ready{listener_.get(), POLLIN, 0};
    if (::poll(&ready, 1, kPatience_ms) > 0) accept_client();
    if (connection_) return {};
    return Error(ErrorKind::Io, fmt::format("chardev '{}': nobody has connected to {}", config_.id, address_text(config_)));
  }

  void accept_client() {
    Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd) take_connection(std::move(fd));
  }

  void take_connection(Fd fd) {
    if (config_.nodelay) {
      int one = 1;
      ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    listen_watch_.reset();  // further clients wait in the backlog until this one leaves
    connection_ = std::move(fd);
    had_client_ = true;
    channel_->open(connection_.get(), connection_.get());
    telnet_ = {};
    if (config_.telnet) channel_->write(TelnetDecoder::greeting());
    channel_->notify(CharEvent::Opened);
  }

  void connection_ended() {
    connection_.reset();
    channel_->notify(CharEvent::Closed);
    if (config_.server) listen();
    else if (config_.reconnect_seconds) retry_later();
  }

  void retry_later() { retry_.arm_in(u64{config_.reconnect_seconds} * 1'000'000'000); }

  void reconnect() {
    auto fd = connect_socket(config_);
    if (fd) take_connection(std::move(*fd));
    else retry_later();
  }

  const ChardevConfig config_;
  Fd listener_, connection_;
  bool owns_path_ = false;
  bool had_client_ = false;
  bool taken_ = false;  // another one speaks over the connection
  TelnetDecoder telnet_;
  std::unique_ptr<Loop::Watch> listen_watch_;
  std::unique_ptr<Channel> channel_;
  Loop::Timer retry_;
};

}  // namespace

Result<std::unique_ptr<Chardev>> create_socket_chardev(Loop& loop, const ChardevConfig& config) {
  auto chardev = std::make_unique<SocketChardev>(config, TRY(Channel::create(loop)));
  TRY(chardev->open());
  return chardev;
}

}  // namespace atl::control
