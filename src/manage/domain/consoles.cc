#include "manage/domain/consoles.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <termios.h>

#include <fmt/format.h>

#include "base/sockets.h"
#include "manage/domain/aliases.h"

namespace atl::manage {

/// Bytes both ways, with a buffer each that is full before its source is read no more. Loop thread.
class Consoles::Relay {
 public:
  Relay(Fd port, Fd client) {
    ends_[0].fd = std::move(port);
    ends_[1].fd = std::move(client);
  }

  void start(Loop& loop, std::function<void()> ended) {
    ended_ = std::move(ended);
    for (int side : {0, 1})
      ends_[side].watch = std::make_unique<Loop::Watch>(loop, ends_[side].fd.get(), POLLIN, [this, side](u32 events) { serve(side, events); });
  }
  void stop() {
    for (End& end : ends_) end.watch.reset();
    for (End& end : ends_) end.fd.reset();
  }

 private:
  static constexpr size_t kBufferBytes = 64 * kKiB;
  struct End {
    Fd fd;
    std::unique_ptr<Loop::Watch> watch;
    std::string out;  // to be written here
  };

  void serve(int side, u32 events) {
    const bool reads = !(events & POLLIN) || fill(side);
    const bool writes = reads && flush(side) && flush(1 - side);
    if (!reads || !writes || (events & (POLLERR | POLLHUP) && !(events & POLLIN))) return ended_();
    for (int i : {0, 1}) {
      const u32 wanted = (ends_[1 - i].out.size() < kBufferBytes ? POLLIN : 0u) | (ends_[i].out.empty() ? 0u : POLLOUT);
      ends_[i].watch->set_events(wanted);
    }
  }
  bool fill(int side) {
    char buffer[4096];
    const ssize_t got = ::read(ends_[side].fd.get(), buffer, sizeof buffer);
    if (got > 0) ends_[1 - side].out.append(buffer, static_cast<size_t>(got));
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
  }
  bool flush(int side) {
    std::string& out = ends_[side].out;
    if (out.empty()) return true;
    const ssize_t done = ::write(ends_[side].fd.get(), out.data(), out.size());
    if (done > 0) out.erase(0, static_cast<size_t>(done));
    return done >= 0 || errno == EAGAIN || errno == EINTR;
  }

  End ends_[2];
  std::function<void()> ended_;
};

Result<std::unique_ptr<Consoles>> Consoles::create() {
  std::unique_ptr<Consoles> consoles(new Consoles());
  consoles->thread_ = TRY(LoopThread::start("consoles"));
  return consoles;
}

Consoles::~Consoles() {
  std::map<std::string, std::shared_ptr<Relay>> all;
  {
    Lock lock(mutex_);
    all.swap(relays_);
  }
  thread_->run_on([&] {
    for (auto& [key, relay] : all) relay->stop();
  });
}

Result<Fd> Consoles::open(const std::string& key, Fd port, bool take_over) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) return os_error("socketpair");
  Fd ours(ends[0]), theirs(ends[1]);
  auto relay = std::make_shared<Relay>(std::move(port), std::move(ours));
  std::shared_ptr<Relay> old;
  {
    Lock lock(mutex_);
    auto& place = relays_[key];
    if (place && !take_over) return operation_failed("Active console session exists for this domain");
    old = std::exchange(place, relay);
  }
  thread_->run_on([&] {
    if (old) old->stop();
    // Ended from its own callback: the relay goes once that has returned.
    relay->start(thread_->loop(), [this, key, raw = relay.get()] { thread_->loop().post([this, key, raw] { ended(key, raw); }); });
  });
  return theirs;
}

void Consoles::ended(const std::string& key, const Relay* relay) {
  std::shared_ptr<Relay> gone;
  {
    Lock lock(mutex_);
    auto place = relays_.find(key);
    if (place == relays_.end() || place->second.get() != relay) return;
    gone = std::move(place->second);
    relays_.erase(place);
  }
  gone->stop();
}

namespace {

/// A pseudo-terminal passes bytes as they are.
Result<Fd> open_terminal(const std::string& path) {
  Fd fd = TRY(open_file(path, O_RDWR | O_NOCTTY | O_NONBLOCK));
  termios mode;
  if (::tcgetattr(fd.get(), &mode) == 0) {
    ::cfmakeraw(&mode);
    ::tcsetattr(fd.get(), TCSANOW, &mode);
  }
  return fd;
}

Result<Fd> connect_socket(const std::string& path) {
  const sockaddr_un address = TRY(unix_address(path));
  Fd fd = TRY(make_socket(AF_UNIX));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) return os_error("connect to " + path);
  ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  return fd;
}

const Element* choose_port(const Element& domain, const std::string& name, bool channel) {
  constexpr std::string_view kKinds[] = {"console", "serial", "channel"};
  for (std::string_view kind : kKinds)
    for (const Element* port : devices_of(domain).children(kind))
      if (channel == (kind == "channel") && (name.empty() || alias_of(*port) == name || at(*port, "target", "name") == name)) return port;
  return nullptr;
}

}  // namespace

Result<OpenedPort> open_port(const Element& domain, const std::string& name, bool channel) {
  const Element* port = choose_port(domain, name, channel);
  const char* what = channel ? "channel" : "character device";
  if (!port) return internal_error(fmt::format("cannot find {} {}", what, name.empty() ? "<default>" : name));
  const std::string path = at(*port, "source", "path"), type = port->attribute("type");
  if (type == "pty") {
    if (path.empty()) return operation_failed(fmt::format("{} has no terminal yet", alias_of(*port)));
    return OpenedPort{TRY(open_terminal(path)), path};
  }
  if (type == "unix" && at(*port, "source", "mode") == "bind") return OpenedPort{TRY(connect_socket(path)), path};
  return internal_error(fmt::format("{} {} is not using a PTY", what, alias_of(*port)));
}

}  // namespace atl::manage
