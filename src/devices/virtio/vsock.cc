#include "devices/virtio/vsock.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/sockets.h"
#include "base/strings.h"

namespace atl::devices {
namespace {

constexpr u16 kReceive = 0, kTransmit = 1, kEvent = 2;
constexpr u64 kHostCid = 2;
constexpr size_t kHeaderBytes = 44;  // 5.10.6
enum Operation : u16 { kRequest = 1, kResponse = 2, kReset = 3, kShutdown = 4, kData = 5, kCreditUpdate = 6, kCreditRequest = 7 };
constexpr u16 kStream = 1;
constexpr u32 kNoMoreReceive = 1, kNoMoreSend = 2;

constexpr u32 kBufferBytes = 256 * kKiB;  // what the guest may send before the host has taken it
constexpr size_t kMostConnections = 1024, kMostControl = 4096, kMostGreeting = 32, kMostPacket = 64 * kKiB;

}  // namespace

struct VirtioVsock::Header {
  u64 source_cid = 0, target_cid = 0;
  u32 source_port = 0, target_port = 0, length = 0;
  u16 type = kStream, operation = 0;
  u32 flags = 0, buffer_bytes = 0, forwarded = 0;

  static Header parse(const std::array<u8, kHeaderBytes>& raw) {
    return {load_le<u64>(&raw[0]), load_le<u64>(&raw[8]), load_le<u32>(&raw[16]), load_le<u32>(&raw[20]), load_le<u32>(&raw[24]),
            load_le<u16>(&raw[28]), load_le<u16>(&raw[30]), load_le<u32>(&raw[32]), load_le<u32>(&raw[36]), load_le<u32>(&raw[40])};
  }
  std::vector<u8> bytes() const {
    std::vector<u8> raw(kHeaderBytes);
    store_le(&raw[0], source_cid);
    store_le(&raw[8], target_cid);
    store_le(&raw[16], source_port);
    store_le(&raw[20], target_port);
    store_le(&raw[24], length);
    store_le(&raw[28], type);
    store_le(&raw[30], operation);
    store_le(&raw[32], flags);
    store_le(&raw[36], buffer_bytes);
    store_le(&raw[40], forwarded);
    return raw;
  }
};

struct VirtioVsock::Connection {
  enum class State : u8 { Greeting, Asking, Open };
  u32 host_port = 0, guest_port = 0;
  Fd fd;
  State state = State::Open;
  std::string greeting;
  std::unique_ptr<Loop::Watch> watch;
  // From the guest: `taken` bytes of `received` have gone to the socket, `told` of which the guest knows.
  std::vector<u8> pending;
  u32 received = 0, taken = 0, told = 0;
  // To the guest: bytes sent, and what it said of its buffer.
  u32 sent = 0, guest_buffer = 0, guest_taken = 0;
  bool readable = false, host_ended = false, guest_ended = false, guest_deaf = false;

  u32 credit() const {
    const u32 used = sent - guest_taken;
    return used < guest_buffer ? guest_buffer - used : 0;
  }
};

Result<std::unique_ptr<VirtioVsock>> VirtioVsock::create(VirtioVsockOptions options, Loop& loop, memory::AddressSpace& memory) {
  Fd listener = TRY(listen_unix(options.path));
  return std::unique_ptr<VirtioVsock>(new VirtioVsock(std::move(options), std::move(listener), loop, memory));
}

VirtioVsock::VirtioVsock(VirtioVsockOptions options, Fd listener, Loop& loop, memory::AddressSpace& memory)
    : VirtioDevice({.device_id = virtio::kIdVsock, .features = 1, .queue_sizes = {128, 128, 128}, .config_bytes = 8}, loop, memory),
      options_(std::move(options)),
      listener_(std::move(listener)) {
  std::array<u8, 8> cid;
  store_le(cid.data(), options_.guest_cid);
  set_config(0, cid);
  listener_watch_ = std::make_unique<Loop::Watch>(loop, listener_.get(), POLLIN, [this](u32) { accept_client(); });
}

VirtioVsock::~VirtioVsock() { ::unlink(options_.path.c_str()); }

std::string VirtioVsock::describe() const { return fmt::format("guest-cid = {}, socket = {}", options_.guest_cid, options_.path); }

// Life cycle.

void VirtioVsock::activated(u64) {
  listener_watch_->set_events(POLLIN);
  announce_reset();
}

void VirtioVsock::stopping() {
  listener_watch_->set_events(0);
  for (auto& [key, connection] : connections_) connection->watch->set_events(0);
}

/// Sockets end on the loop.
void VirtioVsock::reset_state() {
  control_.clear();
  announce_reset_ = false;
  post([this] { drop_all(); });
}

void VirtioVsock::drop_all() {
  connections_.clear();
  control_.clear();
}

void VirtioVsock::visit(Archive& archive) {
  bool had = !connections_.empty() || announce_reset_;
  archive.field(1, "had_connections", had);
  if (archive.loading()) announce_reset_ = had;
}

/// 5.10.6.7: the driver drops its connections.
void VirtioVsock::announce_reset() {
  if (!announce_reset_) return;
  auto chain = queue_at(kEvent).pop();
  if (!chain) return;
  announce_reset_ = false;
  chain->write_object(0, u32{0});
  chain->add_written(4);
  chain->complete();
  queue_at(kEvent).notify();
}

// From the guest.

void VirtioVsock::serve(u16 index) {
  listener_watch_->set_events(POLLIN);
  if (index == kEvent) return announce_reset();
  if (index == kTransmit) {
    Queue& queue = queue_at(kTransmit);
    while (auto chain = queue.pop()) packet(*chain);
    queue.notify();
  }
  for (auto& [key, connection] : connections_) watch(*connection);
  pump();
}

VirtioVsock::Connection* VirtioVsock::find(u32 host_port, u32 guest_port) {
  auto found = connections_.find(Key{host_port} << 32 | guest_port);
  return found == connections_.end() ? nullptr : found->second.get();
}

void VirtioVsock::packet(const Chain& chain) {
  std::array<u8, kHeaderBytes> raw;
  if (chain.read(0, raw) != raw.size()) return fail("a vsock packet without a header");
  const Header header = Header::parse(raw);
  const bool ours = header.target_cid == kHostCid && header.source_cid == options_.guest_cid && header.type == kStream;
  Connection* connection = find(header.target_port, header.source_port);
  if (!ours || header.length > chain.readable_bytes() - kHeaderBytes) return refuse(header);
  if (header.operation == kRequest) return connection ? refuse(header) : connect_out(header);
  if (!connection || connection->state == Connection::State::Greeting) return refuse(header);
  connection->guest_buffer = header.buffer_bytes;
  connection->guest_taken = header.forwarded;
  const Key key = Key{connection->host_port} << 32 | connection->guest_port;
  switch (header.operation) {
    case kResponse: return connection->state == Connection::State::Asking ? answer_greeting(*connection) : refuse(header);
    case kData: return deliver(*connection, header, chain);
    case kShutdown: return guest_shut_down(*connection, header.flags);
    case kCreditRequest: return say(*connection, kCreditUpdate);
    case kCreditUpdate: return;
    case kReset: return drop(key);
    default:
      refuse(header);
      return drop(key);
  }
}

/// A reset is answered by nothing.
void VirtioVsock::refuse(const Header& header) {
  if (header.operation == kReset || control_.size() >= kMostControl) return;
  const Header answer{.source_cid = header.target_cid, .target_cid = options_.guest_cid, .source_port = header.target_port,
                      .target_port = header.source_port, .type = header.type, .operation = kReset};
  control_.push_back(answer.bytes());
}

void VirtioVsock::connect_out(const Header& header) {
  const auto address = unix_address(fmt::format("{}_{}", options_.path, header.target_port));
  auto fd = make_socket(AF_UNIX);
  const bool connected = address && fd && connections_.size() < kMostConnections &&
                         ::connect(fd->get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0;
  if (!connected) return refuse(header);
  Connection& connection = add(Key{header.target_port} << 32 | header.source_port, std::move(*fd));
  connection.guest_buffer = header.buffer_bytes;
  connection.guest_taken = header.forwarded;
  say(connection, kResponse);
}

void VirtioVsock::deliver(Connection& connection, const Header& header, const Chain& chain) {
  if (connection.state != Connection::State::Open || connection.guest_ended || header.length > kBufferBytes - (connection.received - connection.taken)) {
    refuse(header);
    return drop(Key{connection.host_port} << 32 | connection.guest_port);
  }
  const size_t before = connection.pending.size();
  connection.pending.resize(before + header.length);
  chain.read(kHeaderBytes, std::span(connection.pending).subspan(before));
  connection.received += header.length;
  flush(connection);
}

void VirtioVsock::guest_shut_down(Connection& connection, u32 flags) {
  connection.guest_ended |= (flags & kNoMoreSend) != 0;
  connection.guest_deaf |= (flags & kNoMoreReceive) != 0;
  flush(connection);
}

/// Gives the host what it takes. Who has nothing more to say or hear is let go.
void VirtioVsock::flush(Connection& c) {
  const Key key = Key{c.host_port} << 32 | c.guest_port;
  while (!c.pending.empty()) {
    const ssize_t n = ::send(c.fd.get(), c.pending.data(), c.pending.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) {
      say(c, kReset);
      return drop(key);
    }
    c.pending.erase(c.pending.begin(), c.pending.begin() + n);
    c.taken += static_cast<u32>(n);
  }
  if (c.taken - c.told >= kBufferBytes / 4) say(c, kCreditUpdate);
  if (c.pending.empty() && c.guest_ended) ::shutdown(c.fd.get(), SHUT_WR);
  if (c.pending.empty() && c.guest_ended && (c.guest_deaf || c.host_ended)) {
    say(c, kReset);
    return drop(key);
  }
  watch(c);
}

// Connections.

VirtioVsock::Connection& VirtioVsock::add(Key key, Fd fd) {
  auto connection = std::make_unique<Connection>();
  connection->host_port = static_cast<u32>(key >> 32);
  connection->guest_port = static_cast<u32>(key);
  connection->fd = std::move(fd);
  connection->watch = std::make_unique<Loop::Watch>(loop(), connection->fd.get(), POLLIN, [this, key](u32 events) { socket_event(key, events); });
  return *(connections_[key] = std::move(connection));
}

void VirtioVsock::watch(Connection& c) {
  const bool reads = !c.readable && !c.host_ended && c.state != Connection::State::Asking;
  c.watch->set_events((reads ? u32{POLLIN} : 0) | (c.pending.empty() ? 0 : u32{POLLOUT}));
}

void VirtioVsock::drop(Key key) { connections_.erase(key); }

void VirtioVsock::socket_event(Key key, u32 events) {
  auto found = connections_.find(key);
  if (found == connections_.end()) return;
  Connection& c = *found->second;
  if (!running()) return c.watch->set_events(0);
  refresh_memory();
  if (c.state == Connection::State::Greeting) {
    read_greeting(c);
  } else if (c.state == Connection::State::Asking) {  // it left before the guest said anything
    say(c, kReset);
    drop(key);
  } else {
    if (events & (POLLIN | POLLHUP | POLLERR)) c.readable = true;
    if (!c.pending.empty()) flush(c);
    else watch(c);
  }
  pump();
}

void VirtioVsock::accept_client() {
  if (!running() || connections_.size() >= kMostConnections) return listener_watch_->set_events(0);
  Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) return;
  Connection& connection = add(Key{next_port_} << 32, std::move(fd));
  next_port_ = next_port_ == 0x7fffffff ? 1u << 30 : next_port_ + 1;
  connection.state = Connection::State::Greeting;
}

/// "CONNECT port\n"; what follows is the guest's.
void VirtioVsock::read_greeting(Connection& c) {
  const Key key = Key{c.host_port} << 32 | c.guest_port;
  while (c.greeting.size() < kMostGreeting && !c.greeting.ends_with('\n')) {
    char letter = 0;
    const ssize_t n = ::recv(c.fd.get(), &letter, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return drop(key);
    c.greeting += letter;
  }
  constexpr std::string_view kConnect = "CONNECT ";
  const auto port = c.greeting.starts_with(kConnect) ? parse_u64(trim(std::string_view(c.greeting).substr(kConnect.size()))) : std::nullopt;
  if (!port || *port > 0xffffffff) return drop(key);
  const u32 host_port = c.host_port, guest_port = static_cast<u32>(*port);
  Fd fd = std::move(c.fd);
  drop(key);
  Connection& asking = add(Key{host_port} << 32 | guest_port, std::move(fd));
  asking.state = Connection::State::Asking;
  watch(asking);
  say(asking, kRequest);
}

void VirtioVsock::answer_greeting(Connection& c) {
  const std::string answer = fmt::format("OK {}\n", c.host_port);
  c.state = Connection::State::Open;
  c.pending.assign(answer.begin(), answer.end());
  c.taken -= static_cast<u32>(answer.size());  // these are not the guest's
  c.told = c.taken;
  c.received = 0;
  flush(c);
}

// To the guest.

VirtioVsock::Header VirtioVsock::header_of(const Connection& c, u16 operation) const {
  return {.source_cid = kHostCid, .target_cid = options_.guest_cid, .source_port = c.host_port, .target_port = c.guest_port,
          .operation = operation, .buffer_bytes = kBufferBytes, .forwarded = c.taken};
}

void VirtioVsock::say(const Connection& connection, u16 operation, u32 flags) {
  if (control_.size() >= kMostControl) return;
  Header header = header_of(connection, operation);
  header.flags = flags;
  if (Connection* c = find(connection.host_port, connection.guest_port)) c->told = c->taken;
  control_.push_back(header.bytes());
}

/// As long as the guest has buffers: first what must be said, then data, by turns.
void VirtioVsock::pump() {
  if (!running()) return;
  bool more = true;
  while (more) {
    more = send_control();
    if (more || !control_.empty() || connections_.empty()) continue;
    auto next = connections_.upper_bound(turn_);
    for (size_t i = 0; i < connections_.size(); ++i, ++next) {
      if (next == connections_.end()) next = connections_.begin();
      turn_ = next->first;
      Connection& connection = *next->second;  // which its end takes out of the map
      if (connection.readable && connection.state == Connection::State::Open) more = send_data(connection);
      if (more) break;
    }
  }
  queue_at(kReceive).notify();
}

/// One header; false if there is none, or no buffer.
bool VirtioVsock::send_control() {
  if (control_.empty()) return false;
  auto chain = queue_at(kReceive).pop();
  if (!chain) return false;
  chain->write(0, control_.front());
  chain->add_written(kHeaderBytes);
  control_.pop_front();
  return true;
}

/// One packet; false if there is no data, no buffer or no credit.
bool VirtioVsock::send_data(Connection& c) {
  if (c.credit() == 0) return false;
  auto chain = queue_at(kReceive).pop();
  if (!chain) return false;
  const u64 room = chain->writable_bytes() > kHeaderBytes ? chain->writable_bytes() - kHeaderBytes : 0;
  scratch_.resize(std::min({static_cast<size_t>(room), static_cast<size_t>(c.credit()), kMostPacket}));
  const ssize_t n = scratch_.empty() ? 0 : ::recv(c.fd.get(), scratch_.data(), scratch_.size(), MSG_DONTWAIT);
  if (n > 0) {
    Header header = header_of(c, kData);
    header.length = static_cast<u32>(n);
    chain->write(0, header.bytes());
    chain->write(kHeaderBytes, std::span(scratch_).first(static_cast<size_t>(n)));
    chain->add_written(kHeaderBytes + static_cast<u64>(n));
    c.sent += header.length;
    c.told = c.taken;
    return true;
  }
  queue_at(kReceive).put_back(std::move(*chain));
  c.readable = false;
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    watch(c);
    return false;
  }
  c.host_ended = true;
  say(c, kShutdown, kNoMoreSend);
  flush(c);
  return true;
}

}  // namespace atl::devices
