#include "net/user_backend.h"

#include <arpa/inet.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/core.h>

#include "base/clock.h"
#include "net/user_options.h"
#include "net/vnet_header.h"

namespace atl::net {

namespace {

constexpr u64 kMaxHeldBytes = 1 * kMiB;
constexpr size_t kMaxFrameBytes = 65535 + 18;  // a TCP segment of any size, with Ethernet and VLAN headers
constexpr u64 kNsPerMs = 1'000'000;
constexpr const char* kPrefix6 = "fec0::";
constexpr u8 kPrefix6Bits = 64;

u32 to_poll(int events) {
  return (events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
         (events & SLIRP_POLL_PRI ? POLLPRI : 0);
}

int from_poll(u32 revents) {
  return (revents & POLLIN ? SLIRP_POLL_IN : 0) | (revents & POLLOUT ? SLIRP_POLL_OUT : 0) |
         (revents & POLLPRI ? SLIRP_POLL_PRI : 0) | (revents & POLLERR ? SLIRP_POLL_ERR : 0) |
         (revents & POLLHUP ? SLIRP_POLL_HUP : 0);
}

in6_addr address6(u8 last) {
  in6_addr address{};
  inet_pton(AF_INET6, kPrefix6, &address);
  address.s6_addr[15] = last;
  return address;
}

/// io_uring reports what a socket was woken with, and Linux wakes readers for urgent data along with any other. libslirp
/// would mark the last byte as urgent, and the guest would take it out of the stream.
u32 without_false_urgency(int fd, u32 revents) {
  if (!(revents & POLLPRI)) return revents;
  pollfd now{.fd = fd, .events = POLLPRI, .revents = 0};
  bool urgent = ::poll(&now, 1, 0) == 1 && (now.revents & POLLPRI);
  return urgent ? revents : revents & ~u32{POLLPRI};
}

const char* or_null(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

SlirpConfig make_config(const UserOptions& options, const UserAddresses& addresses) {
  return {.version = 4,
          .restricted = options.restricted,
          .in_enabled = options.ipv4,
          .vnetwork = addresses.network,
          .vnetmask = addresses.mask,
          .vhost = addresses.host,
          .in6_enabled = options.ipv6,
          .vprefix_addr6 = address6(0),
          .vprefix_len = kPrefix6Bits,
          .vhost6 = address6(2),
          .vhostname = or_null(options.hostname),
          .tftp_path = or_null(options.tftp),
          .bootfile = or_null(options.bootfile),
          .vdhcp_start = addresses.dhcp_start,
          .vnameserver = addresses.dns,
          .vnameserver6 = address6(3),
          .vdomainname = or_null(options.domain)};
}

}  // namespace

/// A timer of libslirp's.
struct UserBackend::StackTimer {
  StackTimer(UserBackend& owner, SlirpTimerId timer_id, void* timer_argument)
      : id(timer_id), argument(timer_argument), timer(owner.loop_, [this, &owner] {
          slirp_handle_timer(owner.stack_, id, argument);
          owner.turn_end_.schedule();
        }) {}
  SlirpTimerId id;
  void* argument;
  Loop::Timer timer;
};

const SlirpCb UserBackend::kCallbacks = {
    .send_packet = [](const void* data, size_t size, void* self) -> ssize_t {
      static_cast<UserBackend*>(self)->deliver({static_cast<const u8*>(data), size});
      return static_cast<ssize_t>(size);
    },
    .guest_error = [](const char*, void* self) { ++static_cast<UserBackend*>(self)->guest_errors_; },
    .clock_get_ns = [](void*) { return static_cast<i64>(monotonic_ns()); },
    .timer_new = nullptr,
    .timer_free = [](void* timer, void*) { delete static_cast<StackTimer*>(timer); },
    .timer_mod = [](void* timer, i64 expire_ms, void*) {
      static_cast<StackTimer*>(timer)->timer.arm_at(static_cast<u64>(std::max<i64>(expire_ms, 0)) * kNsPerMs);
    },
    .register_poll_fd = [](int, void*) {},
    .unregister_poll_fd = [](int fd, void* opaque) {
      static_cast<UserBackend*>(opaque)->forget(fd);
    },
    .notify = [](void* self) { static_cast<UserBackend*>(self)->turn_end_.schedule(); },
    .init_completed = [](Slirp*, void*) {},
    .timer_new_opaque = [](SlirpTimerId id, void* argument, void* self) -> void* {
      return new StackTimer(*static_cast<UserBackend*>(self), id, argument);
    },
};

UserBackend::UserBackend(Loop& loop, const UserOptions& options)
    : loop_(loop),
      options_(options),
      deadline_(loop, [this] {
        ready_ = true;
        finish_turn();
      }),
      turn_end_(loop, [this] { finish_turn(); }),
      packet_(kVnetHeaderBytes + kMaxFrameBytes) {}

UserBackend::~UserBackend() {
  sink_ = nullptr;
  if (stack_) slirp_cleanup(stack_);
}

Result<std::unique_ptr<Backend>> UserBackend::create(Loop& loop, const UserOptions& options) {
  if (!options.ipv4 && !options.ipv6) return Error(ErrorKind::Invalid, "neither IPv4 nor IPv6 is on");
  UserAddresses addresses = TRY(resolve_user_addresses(options));
  std::unique_ptr<UserBackend> backend(new UserBackend(loop, options));
  TRY(backend->start(make_config(backend->options_, addresses)));
  return std::unique_ptr<Backend>(std::move(backend));
}

Result<std::unique_ptr<Backend>> create_user_backend(Loop& loop, const UserOptions& options) {
  return UserBackend::create(loop, options).context("user network " + options.id);
}

Status UserBackend::start(const SlirpConfig& config) {
  stack_ = slirp_new(&config, &kCallbacks, this);
  if (!stack_) return Error(ErrorKind::Invalid, "libslirp refuses these options");
  for (const HostForward& forward : options_.forwards) TRY(add_forward(forward));
  for (const GuestForward& forward : options_.guest_forwards) TRY(add_guest_forward(forward));
  turn_end_.schedule();
  return {};
}

Status UserBackend::add_forward(const HostForward& forward) {
  std::string name = fmt::format("{}:{}:{}-{}:{}", forward.udp ? "udp" : "tcp", forward.host_address, forward.host_port,
                                 forward.guest_address, forward.guest_port);
  in_addr host = TRY(parse_ipv4(forward.host_address, {.s_addr = INADDR_ANY}, "host address").context(name));
  in_addr guest = TRY(parse_ipv4(forward.guest_address, {}, "guest address").context(name));
  errno = 0;
  if (slirp_add_hostfwd(stack_, forward.udp, host, forward.host_port, guest, forward.guest_port) < 0)
    return os_error(fmt::format("Could not set up host forwarding rule '{}'", name));
  return {};
}

/// Connections that are under way stay.
Status UserBackend::remove_forward(const HostForward& forward) {
  const in_addr host = TRY(parse_ipv4(forward.host_address, {.s_addr = INADDR_ANY}, "host address"));
  if (slirp_remove_hostfwd(stack_, forward.udp, host, forward.host_port) == 0) return {};
  return Error(ErrorKind::NotFound, fmt::format("host forwarding rule for {}:{}:{} not found", forward.udp ? "udp" : "tcp",
                                                forward.host_address, forward.host_port));
}

Status UserBackend::add_guest_forward(const GuestForward& forward) {
  in_addr guest = TRY(parse_ipv4(forward.guest_address, {}, "guestfwd address"));
  if (slirp_add_exec(stack_, forward.command.c_str(), &guest, forward.guest_port) == 0) return {};
  return Error(ErrorKind::Invalid, fmt::format("conflicting/invalid guestfwd address {}:{}", forward.guest_address, forward.guest_port));
}

// From the guest.

bool UserBackend::send(std::span<const iovec> frame) {
  size_t size = 0;
  for (const iovec& part : frame) {
    if (part.iov_len > packet_.size() - size) {
      ++dropped_;
      return false;
    }
    if (part.iov_len) std::memcpy(&packet_[size], part.iov_base, part.iov_len);
    size += part.iov_len;
  }
  if (!finish_checksum(std::span(packet_).first(size))) {
    ++dropped_;
    return false;
  }
  slirp_input(stack_, &packet_[kVnetHeaderBytes], static_cast<int>(size - kVnetHeaderBytes));
  return true;
}

// To the guest.

void UserBackend::deliver(std::span<const u8> frame) {
  if (held_.empty() && offer(frame)) return;
  if (held_bytes_ + frame.size() > kMaxHeldBytes) {
    ++dropped_;
    return;
  }
  held_bytes_ += frame.size();
  held_.emplace_back(frame.begin(), frame.end());
}

/// False if the guest has no room now.
bool UserBackend::offer(std::span<const u8> frame) {
  if (!sink_) return true;
  std::array<u8, kVnetHeaderBytes> header{};
  header[0] = guest_checks_ ? 0 : kVnetDataValid;
  iovec parts[] = {{header.data(), header.size()}, {const_cast<u8*>(frame.data()), frame.size()}};
  return sink_->receive(parts);
}

void UserBackend::resume_receive() {
  while (!held_.empty() && offer(held_.front())) {
    held_bytes_ -= held_.front().size();
    held_.pop_front();
  }
  ready_ = true;
  turn_end_.schedule();
}

// Sockets.

/// Once a turn of the loop in which anything happened.
void UserBackend::finish_turn() {
  turn_end_.cancel();
  if (ready_ && held_.empty()) poll_sockets();
  collect_sockets();
  if (sink_) sink_->received_batch();
}

void UserBackend::poll_sockets() {
  ready_ = false;
  slirp_pollfds_poll(
      stack_, 0,
      [](int index, void* opaque) {
        auto& polled = static_cast<UserBackend*>(opaque)->polled_;
        if (index < 0 || static_cast<size_t>(index) >= polled.size()) return 0;
        Socket* socket = polled[static_cast<size_t>(index)];
        return socket ? from_poll(std::exchange(socket->ready, 0)) : 0;
      },
      this);
}

/// Asks libslirp what it waits for, and changes only what is not being watched already. A watch that has fired stays
/// quiet until it is wanted again.
void UserBackend::collect_sockets() {
  for (auto& [fd, socket] : sockets_) socket.wanted = 0;
  polled_.clear();
  u32 timeout_ms = ~u32{0};
  slirp_pollfds_fill(
      stack_, &timeout_ms,
      [](int fd, int events, void* opaque) { return static_cast<UserBackend*>(opaque)->want(fd, to_poll(events)); }, this);
  for (auto& [fd, socket] : sockets_) {
    bool covered = socket.wanted ? (socket.wanted & ~socket.armed) == 0 : socket.armed == 0;
    if (covered) continue;
    socket.armed = socket.wanted;
    socket.watch->set_events(socket.wanted);
  }
  if (timeout_ms == ~u32{0}) return;
  u64 due = monotonic_ns() + timeout_ms * kNsPerMs;
  if (deadline_.armed() && deadline_ns_ <= due) return;
  deadline_ns_ = due;
  deadline_.arm_at(due);
}

int UserBackend::want(int fd, u32 events) {
  Socket& socket = sockets_[fd];
  if (!socket.watch)
    socket.watch = std::make_unique<Loop::Watch>(loop_, fd, 0, [this, fd](u32 revents) { socket_ready(fd, revents); });
  socket.wanted = events;
  polled_.push_back(&socket);
  return static_cast<int>(polled_.size() - 1);
}

void UserBackend::socket_ready(int fd, u32 revents) {
  auto found = sockets_.find(fd);
  if (found == sockets_.end()) return;
  Socket& socket = found->second;
  socket.ready |= without_false_urgency(fd, revents);
  socket.armed = 0;
  socket.watch->set_events(0);
  ready_ = true;
  turn_end_.schedule();
}

/// libslirp closes a descriptor; its number may come back for another socket.
void UserBackend::forget(int fd) {
  auto found = sockets_.find(fd);
  if (found == sockets_.end()) return;
  std::ranges::replace(polled_, &found->second, nullptr);
  sockets_.erase(found);
}

std::string UserBackend::describe() const {
  return fmt::format("type=user,net={},restrict={}", options_.net, options_.restricted ? "on" : "off");
}

}  // namespace atl::net
