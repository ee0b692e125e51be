#include "devices/virtio/vhost_user.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include <fmt/core.h>

#include "base/clock.h"
#include "base/endian.h"

namespace atl::devices {
namespace {

// Requests, by the specification's "Front-end message types".
enum Request : u32 {
  kGetFeatures = 1, kSetFeatures = 2, kSetOwner = 3, kSetMemTable = 5, kSetVringNum = 8, kSetVringAddr = 9, kSetVringBase = 10,
  kGetVringBase = 11, kSetVringKick = 12, kSetVringCall = 13, kGetProtocolFeatures = 15, kSetProtocolFeatures = 16,
  kSetVringEnable = 18, kGetConfig = 24, kSetConfig = 25,
};

// Header: request, flags, size of the payload.
constexpr size_t kHeaderBytes = 12;
constexpr u32 kVersion = 1, kVersionMask = 3, kReply = 4, kNeedReply = 8;
constexpr u64 kFeatureProtocol = u64{1} << 30;
constexpr u64 kProtocolReplyAck = u64{1} << 3, kProtocolConfig = u64{1} << 9;
constexpr size_t kMaxFds = 8, kRegionBytes = 32, kConfigHeader = 12, kMaxConfig = 256;

const char* name_of(u32 request) {
  switch (request) {
    case kGetFeatures: return "GET_FEATURES";
    case kSetFeatures: return "SET_FEATURES";
    case kSetOwner: return "SET_OWNER";
    case kSetMemTable: return "SET_MEM_TABLE";
    case kSetVringNum: return "SET_VRING_NUM";
    case kSetVringAddr: return "SET_VRING_ADDR";
    case kSetVringBase: return "SET_VRING_BASE";
    case kGetVringBase: return "GET_VRING_BASE";
    case kSetVringKick: return "SET_VRING_KICK";
    case kSetVringCall: return "SET_VRING_CALL";
    case kGetProtocolFeatures: return "GET_PROTOCOL_FEATURES";
    case kSetProtocolFeatures: return "SET_PROTOCOL_FEATURES";
    case kSetVringEnable: return "SET_VRING_ENABLE";
    case kGetConfig: return "GET_CONFIG";
    default: return "SET_CONFIG";
  }
}

Status wait_for(int fd, short events, u64 deadline_ns) {
  for (;;) {
    const u64 now = monotonic_ns();
    if (now >= deadline_ns) return Error(ErrorKind::Io, "the back end does not answer");
    pollfd ready{fd, events, 0};
    const int n = ::poll(&ready, 1, static_cast<int>((deadline_ns - now) / 1'000'000 + 1));
    if (n > 0) return {};
    if (n < 0 && errno != EINTR) return os_error("poll");
  }
}

/// One message; the descriptors travel with its first byte.
Status send_message(int fd, std::span<const u8> data, std::span<const int> fds, u64 deadline_ns) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> space{};
  while (!data.empty()) {
    iovec part = {const_cast<u8*>(data.data()), data.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = space.data();
      message.msg_controllen = CMSG_SPACE(fds.size_bytes());
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(fds.size_bytes());
      std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
    }
    const ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      data = data.subspan(static_cast<size_t>(sent));
      fds = {};
    } else if (errno == EAGAIN) {
      TRY(wait_for(fd, POLLOUT, deadline_ns));
    } else if (errno != EINTR) {
      return os_error("send");
    }
  }
  return {};
}

/// Descriptors that come along are closed by the kernel, as there is no room for them.
Status receive_bytes(int fd, std::span<u8> out, u64 deadline_ns) {
  while (!out.empty()) {
    const ssize_t got = ::recv(fd, out.data(), out.size(), MSG_DONTWAIT);
    if (got > 0) out = out.subspan(static_cast<size_t>(got));
    else if (got == 0) return Error(ErrorKind::Io, "the back end has hung up");
    else if (errno == EAGAIN) TRY(wait_for(fd, POLLIN, deadline_ns));
    else if (errno != EINTR) return os_error("receive");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<VhostUser>> VhostUser::create(Fd socket) {
  std::unique_ptr<VhostUser> peer(new VhostUser(std::move(socket)));
  TRY(peer->negotiate().context("vhost-user"));
  return peer;
}

Status VhostUser::negotiate() {
  features_ = TRY(ask_u64(kGetFeatures));
  TRY(tell(kSetOwner, {}));
  if (!(features_ & kFeatureProtocol)) return Error(ErrorKind::Unsupported, "the back end has no protocol features");
  features_ &= ~kFeatureProtocol;
  const u64 wanted = TRY(ask_u64(kGetProtocolFeatures)) & (kProtocolReplyAck | kProtocolConfig);
  TRY(tell_u64(kSetProtocolFeatures, wanted));
  protocol_ = wanted;
  return {};
}

bool VhostUser::is_gone() const {
  u8 byte = 0;
  const ssize_t n = ::recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n >= 0 || (errno != EAGAIN && errno != EINTR);
}

Status VhostUser::send(u32 request, std::span<const u8> payload, std::span<const int> fds, bool want_reply) {
  std::vector<u8> data(kHeaderBytes);
  store_le<u32>(&data[0], request);
  store_le<u32>(&data[4], kVersion | (want_reply ? kNeedReply : 0));
  store_le<u32>(&data[8], static_cast<u32>(payload.size()));
  data.insert(data.end(), payload.begin(), payload.end());
  return send_message(socket_.get(), data, fds, monotonic_ns() + kPatience_ns).context(name_of(request));
}

Status VhostUser::receive(u32 request, std::span<u8> payload) {
  const u64 deadline = monotonic_ns() + kPatience_ns;
  std::array<u8, kHeaderBytes> header;
  TRY(receive_bytes(socket_.get(), header, deadline).context(name_of(request)));
  const u32 flags = load_le<u32>(&header[4]);
  const bool fits = load_le<u32>(&header[0]) == request && (flags & kVersionMask) == kVersion && (flags & kReply) &&
                    load_le<u32>(&header[8]) == payload.size();
  if (!fits) return Error(ErrorKind::Invalid, fmt::format("{}: the back end's answer is another one's", name_of(request)));
  return receive_bytes(socket_.get(), payload, deadline).context(name_of(request));
}

/// Waits until the back end has done it, where it can say so.
Status VhostUser::tell(u32 request, std::span<const u8> payload, std::span<const int> fds) {
  const bool acknowledged = protocol_ & kProtocolReplyAck;
  TRY(send(request, payload, fds, acknowledged));
  if (!acknowledged) return {};
  std::array<u8, 8> result;
  TRY(receive(request, result));
  if (const u64 code = load_le<u64>(result.data()); code != 0)
    return Error(ErrorKind::Io, fmt::format("{}: the back end refuses (code {})", name_of(request), code));
  return {};
}

Status VhostUser::tell_u64(u32 request, u64 value) {
  std::array<u8, 8> payload;
  store_le(payload.data(), value);
  return tell(request, payload);
}

Result<u64> VhostUser::ask_u64(u32 request) {
  TRY(send(request, {}, {}, false));
  std::array<u8, 8> value;
  TRY(receive(request, value));
  return load_le<u64>(value.data());
}

Status VhostUser::ring_state(u32 request, u16 index, u32 value) {
  std::array<u8, 8> payload;
  store_le<u32>(&payload[0], index);
  store_le<u32>(&payload[4], value);
  return tell(request, payload);
}

Status VhostUser::set_features(u64 features) { return tell_u64(kSetFeatures, features | kFeatureProtocol); }

Status VhostUser::set_memory(std::span<const Region> regions) {
  CHECK(regions.size() <= kMaxFds);
  std::vector<u8> payload(8 + kRegionBytes * regions.size());
  store_le<u32>(&payload[0], static_cast<u32>(regions.size()));
  std::vector<int> fds;
  for (const Region& region : regions) {
    u8* at = &payload[8 + kRegionBytes * fds.size()];
    store_le<u64>(at, region.address);  // in descriptors
    store_le<u64>(at + 8, region.size);
    store_le<u64>(at + 16, region.address);  // of rings
    store_le<u64>(at + 24, region.offset);
    fds.push_back(region.fd);
  }
  return tell(kSetMemTable, payload, fds);
}

Status VhostUser::start_ring(const Ring& ring) {
  TRY(ring_state(kSetVringNum, ring.index, ring.size));
  TRY(ring_state(kSetVringBase, ring.index, 0));
  std::array<u8, 40> address{};
  store_le<u32>(&address[0], ring.index);
  store_le<u64>(&address[8], ring.descriptors);
  store_le<u64>(&address[16], ring.device);
  store_le<u64>(&address[24], ring.driver);
  TRY(tell(kSetVringAddr, address));
  std::array<u8, 8> index{};
  index[0] = static_cast<u8>(ring.index);
  TRY(tell(kSetVringCall, index, {&ring.call, 1}));
  TRY(tell(kSetVringKick, index, {&ring.kick, 1}));
  return enable_ring(ring.index, true);
}

Result<u16> VhostUser::stop_ring(u16 index) {
  std::array<u8, 8> state{};
  store_le<u32>(&state[0], index);
  TRY(send(kGetVringBase, state, {}, false));
  TRY(receive(kGetVringBase, state));
  if (load_le<u32>(&state[0]) != index) return Error(ErrorKind::Invalid, "GET_VRING_BASE: the answer is another ring's");
  return static_cast<u16>(load_le<u32>(&state[4]));
}

Status VhostUser::enable_ring(u16 index, bool on) { return ring_state(kSetVringEnable, index, on); }

bool VhostUser::has_config() const { return protocol_ & kProtocolConfig; }

Status VhostUser::read_config(std::span<u8> out) {
  CHECK(out.size() <= kMaxConfig);
  std::vector<u8> payload(kConfigHeader + out.size());
  store_le<u32>(&payload[4], static_cast<u32>(out.size()));
  TRY(send(kGetConfig, payload, {}, false));
  TRY(receive(kGetConfig, payload));
  std::memcpy(out.data(), &payload[kConfigHeader], out.size());
  return {};
}

Status VhostUser::write_config(u32 offset, std::span<const u8> data) {
  CHECK(data.size() <= kMaxConfig);
  std::vector<u8> payload(kConfigHeader);
  store_le<u32>(&payload[0], offset);
  store_le<u32>(&payload[4], static_cast<u32>(data.size()));
  payload.insert(payload.end(), data.begin(), data.end());
  return tell(kSetConfig, payload);
}

}  // namespace atl::devices
