#include "net/socket_backend.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/sockets.h"

namespace atl::net {
namespace {

constexpr size_t kLengthBytes = 4;
constexpr size_t kMaxOutput = 1 << 20;   // of a stream whose reader is slow
constexpr int kFramesATurn = 64;         // then others on the loop get theirs
constexpr u64 kSecond_ns = 1'000'000'000;
using Kind = SocketOptions::Kind;

std::string text_of(const SocketOptions::Address& a) { return a.path.empty() ? fmt::format("{}:{}", a.host, a.port) : a.path; }

Result<Fd> datagram_socket(int family) {
  Fd fd(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return os_error("create a datagram socket");
  return fd;
}

void set_flag(const Fd& fd, int level, int option) {
  const int one = 1;
  ::setsockopt(fd.get(), level, option, &one, sizeof one);
}

}  // namespace

// -- framing ---------------------------------------------------------------------------------------------------------------

bool FrameCutter::add(std::span<const u8> bytes) {
  buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(at_));
  at_ = 0;
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  // Every length that is there is looked at before any frame is handed out.
  for (size_t at = 0; at + kLengthBytes <= buffer_.size();) {
    const u32 length = load_be<u32>(&buffer_[at]);
    if (length == 0 || length > kMaxWireFrame) return false;
    at += kLengthBytes + length;
  }
  return true;
}

std::span<const u8> FrameCutter::next() {
  if (buffer_.size() - at_ < kLengthBytes) return {};
  const u32 length = load_be<u32>(&buffer_[at_]);
  if (buffer_.size() - at_ - kLengthBytes < length) return {};
  const auto frame = std::span(buffer_).subspan(at_ + kLengthBytes, length);
  at_ += kLengthBytes + length;
  return frame;
}

// -- making ----------------------------------------------------------------------------------------------------------------

SocketBackend::SocketBackend(Loop& loop, const SocketOptions& options)
    : loop_(loop), options_(options), retry_(loop, [this] {
        if (!fd_ && !connect()) retry_.arm_in(options_.reconnect_s * kSecond_ns);
      }) {}

SocketBackend::~SocketBackend() {
  watch_.reset();
  listener_watch_.reset();
  if (!bound_path_.empty()) ::unlink(bound_path_.c_str());
}

Result<std::unique_ptr<Backend>> SocketBackend::create(Loop& loop, const SocketOptions& options) {
  std::unique_ptr<SocketBackend> backend(new SocketBackend(loop, options));
  TRY(backend->start());
  return std::unique_ptr<Backend>(std::move(backend));
}

Result<std::unique_ptr<Backend>> create_socket_backend(Loop& loop, const SocketOptions& options) {
  return SocketBackend::create(loop, options).context("socket network " + options.id);
}

Status SocketBackend::start() {
  switch (options_.kind) {
    case Kind::Listen:
      listener_ = TRY(options_.local.path.empty() ? listen_tcp(options_.local.host, options_.local.port) : listen_unix(options_.local.path));
      bound_path_ = options_.local.path;
      listener_watch_ = std::make_unique<Loop::Watch>(loop_, listener_.get(), POLLIN, [this](u32) { accept(); });
      return {};
    case Kind::Connect: {
      Status done = connect();
      if (done || options_.reconnect_s == 0) return done;
      retry_.arm_in(options_.reconnect_s * kSecond_ns);
      return {};
    }
    case Kind::Datagram: return start_datagrams();
    case Kind::Multicast: return start_multicast();
    case Kind::Adopted: return adopt();
  }
  return {};
}

Result<SocketBackend::Address> SocketBackend::address_of(const SocketOptions::Address& where, bool passive) {
  Address address;
  if (!where.path.empty()) {
    const sockaddr_un un = TRY(unix_address(where.path));
    std::memcpy(&address.storage, &un, sizeof un);
    address.size = sizeof un;
    return address;
  }
  const AddressList list = TRY(resolve_tcp(where.host, where.port, passive));
  std::memcpy(&address.storage, list->ai_addr, list->ai_addrlen);
  address.size = list->ai_addrlen;
  return address;
}

Status SocketBackend::start_datagrams() {
  if (!options_.remote.empty()) remote_ = TRY(address_of(options_.remote, false));
  const Address local = options_.local.empty() ? Address{} : TRY(address_of(options_.local, true));
  Fd fd = TRY(datagram_socket(local.size ? local.storage.ss_family : remote_.storage.ss_family));
  if (!options_.local.path.empty()) ::unlink(options_.local.path.c_str());
  else set_flag(fd, SOL_SOCKET, SO_REUSEADDR);
  if (local.size && ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&local.storage), local.size) < 0)
    return os_error("bind to " + text_of(options_.local));
  bound_path_ = options_.local.path;
  datagrams_ = true;
  attach(std::move(fd));
  return {};
}

/// Everybody in the group hears everybody, on one machine too; IPv4, as QEMU's.
Status SocketBackend::start_multicast() {
  remote_ = TRY(address_of(options_.remote, false));
  const auto* group = reinterpret_cast<const sockaddr_in*>(&remote_.storage);
  if (group->sin_family != AF_INET || !IN_MULTICAST(ntohl(group->sin_addr.s_addr)))
    return Error(ErrorKind::Invalid, fmt::format("{} is no IPv4 multicast address", text_of(options_.remote)));
  Fd fd = TRY(datagram_socket(AF_INET));
  set_flag(fd, SOL_SOCKET, SO_REUSEADDR);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(group), sizeof *group) < 0) return os_error("bind to " + text_of(options_.remote));
  ip_mreq membership{.imr_multiaddr = group->sin_addr, .imr_interface = {.s_addr = INADDR_ANY}};
  if (!options_.local.empty()) {
    const Address local = TRY(address_of(options_.local, true));
    membership.imr_interface = reinterpret_cast<const sockaddr_in*>(&local.storage)->sin_addr;
  }
  if (::setsockopt(fd.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof membership) < 0)
    return os_error("join " + text_of(options_.remote));
  if (!options_.local.empty()) ::setsockopt(fd.get(), IPPROTO_IP, IP_MULTICAST_IF, &membership.imr_interface, sizeof(in_addr));
  set_flag(fd, IPPROTO_IP, IP_MULTICAST_LOOP);
  datagrams_ = true;
  attach(std::move(fd));
  return {};
}

Status SocketBackend::adopt() {
  Fd fd(options_.fd);
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) < 0) return os_error(fmt::format("fd={}: not a socket", options_.fd));
  if (type != SOCK_STREAM && type != SOCK_DGRAM)
    return Error(ErrorKind::Invalid, fmt::format("fd={}: neither a stream nor a datagram socket", options_.fd));
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) < 0) return os_error("make the socket non-blocking");
  datagrams_ = type == SOCK_DGRAM;
  attach(std::move(fd));
  return {};
}

// -- streams come and go ---------------------------------------------------------------------------------------------------

Status SocketBackend::connect() {
  const Address to = TRY(address_of(options_.remote, false));
  Fd fd = TRY(make_socket(to.storage.ss_family));
  const int made = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to.storage), to.size);
  if (made < 0 && errno != EINPROGRESS) return os_error("connect to " + text_of(options_.remote));
  connecting_ = made < 0;
  attach(std::move(fd));
  return {};
}

void SocketBackend::connect_done() {
  int err = 0;
  socklen_t size = sizeof err;
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &err, &size) < 0) err = errno;
  connecting_ = false;
  if (err) lose();
  else set_events();
}

/// While there is a peer, others wait in the kernel.
void SocketBackend::accept() {
  Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) return;
  listener_watch_->set_events(0);
  attach(std::move(fd));
}

void SocketBackend::attach(Fd fd) {
  fd_ = std::move(fd);
  cutter_ = {};
  output_.clear();
  watch_ = std::make_unique<Loop::Watch>(loop_, fd_.get(), 0, [this](u32 events) { on_ready(events); });
  set_events();
}

/// The wire is cut. The guest's link stays, as with QEMU; what it sends is dropped.
void SocketBackend::lose() {
  watch_.reset();
  fd_.reset();
  held_.clear();
  if (listener_watch_) return listener_watch_->set_events(POLLIN);
  if (options_.kind == Kind::Connect && options_.reconnect_s) return retry_.arm_in(options_.reconnect_s * kSecond_ns);
  if (on_failure) on_failure(fmt::format("socket network {}: the connection has ended", options_.id));
}

void SocketBackend::set_events() {
  if (!watch_) return;
  const bool writing = connecting_ || !output_.empty();
  watch_->set_events((sink_ && held_.empty() && !connecting_ ? POLLIN : 0u) | (writing ? POLLOUT : 0u));
}

void SocketBackend::on_ready(u32 events) {
  if (connecting_) return connect_done();
  if (events & POLLOUT) write_out();
  if (!fd_ || !(events & (POLLIN | POLLERR | POLLHUP))) return;
  if (datagrams_) read_datagrams();
  else read_stream();
}

// -- to the guest ----------------------------------------------------------------------------------------------------------

void SocketBackend::set_sink(FrameSink* sink) {
  sink_ = sink;
  held_.clear();
  set_events();
}

bool SocketBackend::deliver(std::span<const u8> frame) {
  const iovec part{const_cast<u8*>(frame.data()), frame.size()};
  if (sink_->receive({&part, 1})) return true;
  held_.assign(frame.begin(), frame.end());
  set_events();
  return false;
}

void SocketBackend::deliver_stream() {
  while (sink_ && held_.empty()) {
    const auto frame = cutter_.next();
    if (frame.empty() || !deliver(frame)) break;
  }
  if (sink_) sink_->received_batch();
}

void SocketBackend::read_stream() {
  std::array<u8, 65536> bytes;
  const ssize_t n = ::read(fd_.get(), bytes.data(), bytes.size());
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0 || !cutter_.add(std::span(bytes).first(static_cast<size_t>(n)))) return lose();
  deliver_stream();
}

void SocketBackend::read_datagrams() {
  datagram_.resize(kMaxWireFrame);
  for (int i = 0; i < kFramesATurn && sink_ && held_.empty(); ++i) {
    const ssize_t n = ::recv(fd_.get(), datagram_.data(), datagram_.size(), 0);
    if (n < 0 && errno == EAGAIN) break;
    if (n > 0) deliver(std::span(datagram_).first(static_cast<size_t>(n)));
    if (n == 0 && options_.kind == Kind::Adopted) break;
  }
  if (sink_) sink_->received_batch();
}

void SocketBackend::resume_receive() {
  if (!sink_) return;
  if (!held_.empty()) {
    const std::vector<u8> frame = std::exchange(held_, {});
    if (!deliver(frame)) return;
  }
  deliver_stream();
  set_events();
}

// -- from the guest --------------------------------------------------------------------------------------------------------

bool SocketBackend::send(std::span<const iovec> frame) {
  size_t bytes = 0;
  for (const iovec& part : frame) bytes += part.iov_len;
  const bool sent = fd_ && !connecting_ && bytes > 0 && bytes <= kMaxWireFrame && (datagrams_ ? send_datagram(frame) : send_stream(frame, bytes));
  if (!sent) ++dropped_;
  return sent;
}

bool SocketBackend::send_datagram(std::span<const iovec> frame) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(frame.data());
  message.msg_iovlen = frame.size();
  if (remote_.size) {
    message.msg_name = &remote_.storage;
    message.msg_namelen = remote_.size;
  }
  return ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL) >= 0;
}

/// Whole frames or nothing: what the socket does not take at once is kept, up to a limit.
bool SocketBackend::send_stream(std::span<const iovec> frame, size_t bytes) {
  if (output_.size() + bytes + kLengthBytes > kMaxOutput) return false;
  const size_t at = output_.size();
  output_.resize(at + kLengthBytes);
  store_be<u32>(&output_[at], static_cast<u32>(bytes));
  for (const iovec& part : frame) output_.insert(output_.end(), static_cast<u8*>(part.iov_base), static_cast<u8*>(part.iov_base) + part.iov_len);
  if (at == 0) write_out();
  return true;
}

void SocketBackend::write_out() {
  if (!output_.empty()) {
    const ssize_t n = ::send(fd_.get(), output_.data(), output_.size(), MSG_NOSIGNAL);
    if (n > 0) output_.erase(output_.begin(), output_.begin() + n);
    else if (errno != EAGAIN && errno != EINTR) output_.clear();  // reading finds out what is wrong
  }
  set_events();
}

std::string SocketBackend::describe() const {
  switch (options_.kind) {
    case Kind::Listen: return fmt::format("type=socket,listen={}{}", text_of(options_.local), fd_ ? ",connected" : "");
    case Kind::Connect: return fmt::format("type=socket,connect={}{}", text_of(options_.remote), fd_ && !connecting_ ? ",connected" : "");
    case Kind::Datagram: return fmt::format("type=socket,udp={}", text_of(options_.remote));
    case Kind::Multicast: return fmt::format("type=socket,mcast={}", text_of(options_.remote));
    case Kind::Adopted: return fmt::format("type=socket,fd={}", options_.fd);
  }
  return {};
}

}  // namespace atl::net
