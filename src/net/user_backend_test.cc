// libslirp behind the Backend interface, with a guest made of hand-written frames.
#include "net/user_backend.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>

#include "base/endian.h"
#include "net/vnet_header.h"

namespace atl::net {
namespace {

using Bytes = std::vector<u8>;

constexpr u8 kGuestMac[] = {0x52, 0x54, 0, 1, 2, 3};
constexpr u32 kGuestIp = 0x0a00020f, kHostIp = 0x0a000202;
constexpr u16 kArp = 0x0806, kIp = 0x0800;

struct CollectingSink final : FrameSink {
  bool receive(std::span<const iovec> frame) override {
    if (!room) return false;
    Bytes bytes;
    for (const iovec& part : frame) bytes.insert(bytes.end(), static_cast<u8*>(part.iov_base), static_cast<u8*>(part.iov_base) + part.iov_len);
    header.assign(bytes.begin(), bytes.begin() + kVnetHeaderBytes);
    frames.emplace_back(bytes.begin() + kVnetHeaderBytes, bytes.end());
    return true;
  }
  void received_batch() override { ++batches; }
  bool room = true;
  int batches = 0;
  Bytes header;
  std::vector<Bytes> frames;
};

void put16(Bytes& out, u16 value) { out.insert(out.end(), {static_cast<u8>(value >> 8), static_cast<u8>(value)}); }
void put32(Bytes& out, u32 value) {
  put16(out, static_cast<u16>(value >> 16));
  put16(out, static_cast<u16>(value));
}

Bytes ethernet(u16 type, const Bytes& payload, bool broadcast = false) {
  Bytes frame(6, broadcast ? 0xff : 0x52);
  frame.insert(frame.end(), std::begin(kGuestMac), std::end(kGuestMac));
  put16(frame, type);
  frame.insert(frame.end(), payload.begin(), payload.end());
  return frame;
}

Bytes arp(u16 operation, u32 sender, u32 target) {
  Bytes body;
  put16(body, 1);
  put16(body, kIp);
  body.insert(body.end(), {6, 4});
  put16(body, operation);
  body.insert(body.end(), std::begin(kGuestMac), std::end(kGuestMac));
  put32(body, sender);
  body.insert(body.end(), 6, 0);
  put32(body, target);
  return ethernet(kArp, body, true);
}

/// A UDP datagram whose checksum field holds the pseudo-header's sum only, as checksum offload leaves it.
Bytes udp(u32 to, u16 from_port, u16 to_port, std::string_view text) {
  u16 udp_length = static_cast<u16>(8 + text.size());
  Bytes ip = {0x45, 0};
  put16(ip, static_cast<u16>(20 + udp_length));
  ip.insert(ip.end(), {0, 1, 0, 0, 64, 17, 0, 0});
  put32(ip, kGuestIp);
  put32(ip, to);
  store_le<u16>(&ip[10], static_cast<u16>(~internet_sum(ip)));
  Bytes pseudo(ip.begin() + 12, ip.end());
  pseudo.insert(pseudo.end(), {0, 17});
  put16(pseudo, udp_length);
  put16(ip, from_port);
  put16(ip, to_port);
  put16(ip, udp_length);
  ip.resize(ip.size() + 2);
  store_le<u16>(&ip[26], internet_sum(pseudo));
  ip.insert(ip.end(), text.begin(), text.end());
  return ethernet(kIp, ip);
}

class UserBackendTest : public testing::Test {
 protected:
  Status make(UserOptions options = {}) {
    auto backend = create_user_backend(*loop_, options);
    if (!backend) return backend.error();
    backend_ = std::move(*backend);
    backend_->set_sink(&sink_);
    return {};
  }
  void send(Bytes frame, u16 checksum_start = 0, u16 checksum_offset = 0) {
    Bytes header(kVnetHeaderBytes);
    header[0] = checksum_start ? kVnetNeedsChecksum : 0;
    store_le<u16>(&header[6], checksum_start);
    store_le<u16>(&header[8], checksum_offset);
    iovec parts[] = {{header.data(), header.size()}, {frame.data(), frame.size()}};
    backend_->send(parts);
    backend_->flush();
  }
  /// Runs the loop until a frame satisfies `test`; that frame, or nothing after some seconds.
  template <class F>
  Bytes wait_frame(F test) {
    for (int turn = 0; turn < 5000; ++turn) {
      for (const Bytes& frame : sink_.frames)
        if (test(frame)) return frame;
      loop_->run_once(1'000'000);
    }
    return {};
  }
  static bool is_arp(const Bytes& frame, u16 operation) {
    return frame.size() >= 42 && load_be<u16>(&frame[12]) == kArp && load_be<u16>(&frame[20]) == operation;
  }
  static bool is_ip(const Bytes& frame, u8 protocol) {
    return frame.size() >= 34 && load_be<u16>(&frame[12]) == kIp && frame[23] == protocol;
  }
  /// A loopback socket of the host's; its port goes to `port`.
  static Fd host_socket(int type, u16& port) {
    Fd fd(::socket(AF_INET, type, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    socklen_t size = sizeof address;
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
    return fd;
  }

  std::unique_ptr<Loop> loop_ = std::move(*Loop::create());
  CollectingSink sink_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(UserBackendTest, GatewayAnswersArp) {
  ASSERT_TRUE(make());
  send(arp(1, kGuestIp, kHostIp));
  Bytes reply = wait_frame([](const Bytes& f) { return is_arp(f, 2); });
  ASSERT_FALSE(reply.empty());
  EXPECT_EQ(load_be<u32>(&reply[28]), kHostIp);
  loop_->run_once(0);
  EXPECT_GT(sink_.batches, 0);
}

TEST_F(UserBackendTest, DatagramTravelsToTheHostAndBackWithChecksumsLeftToUs) {
  ASSERT_TRUE(make());
  backend_->set_offloads({.checksum = true});
  u16 port = 0;
  Fd host = host_socket(SOCK_DGRAM, port);
  send(arp(1, kGuestIp, kHostIp));
  send(udp(kHostIp, 4000, port, "question"), 34, 6);
  char text[64];
  sockaddr_in from{};
  socklen_t size = sizeof from;
  ssize_t n = ::recvfrom(host.get(), text, sizeof text, 0, reinterpret_cast<sockaddr*>(&from), &size);
  ASSERT_EQ(std::string_view(text, static_cast<size_t>(n)), "question");
  ::sendto(host.get(), "answer", 6, 0, reinterpret_cast<sockaddr*>(&from), size);
  Bytes reply = wait_frame([](const Bytes& f) { return is_ip(f, 17); });
  ASSERT_FALSE(reply.empty());
  EXPECT_EQ(std::memcmp(&reply[42], "answer", 6), 0);
  EXPECT_EQ(sink_.header[0], kVnetDataValid);
}

TEST_F(UserBackendTest, ForwardedConnectionReachesTheGuest) {
  u16 port = 0;
  host_socket(SOCK_STREAM, port);  // a port that is free
  ASSERT_TRUE(make({.forwards = {{.host_address = "127.0.0.1", .host_port = port, .guest_port = 22}}}));
  send(arp(1, kGuestIp, kHostIp));
  Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  wait_frame([](const Bytes& f) { return is_arp(f, 1) || is_ip(f, 6); });
  send(arp(2, kGuestIp, kHostIp));
  Bytes syn = wait_frame([](const Bytes& f) { return is_ip(f, 6); });
  ASSERT_FALSE(syn.empty());
  EXPECT_EQ(load_be<u16>(&syn[36]), 22);
  EXPECT_TRUE(syn[47] & 2);
}

/// A TCP segment from the guest; checksums are left to the back end.
Bytes tcp(u32 to, u16 from_port, u16 to_port, u32 sequence, u32 acknowledgement, u8 flags, std::string_view text = {}) {
  u16 length = static_cast<u16>(20 + text.size());
  Bytes ip = {0x45, 0};
  put16(ip, static_cast<u16>(20 + length));
  ip.insert(ip.end(), {0, 1, 0, 0, 64, 6, 0, 0});
  put32(ip, kGuestIp);
  put32(ip, to);
  store_le<u16>(&ip[10], static_cast<u16>(~internet_sum(ip)));
  Bytes pseudo(ip.begin() + 12, ip.end());
  pseudo.insert(pseudo.end(), {0, 6});
  put16(pseudo, length);
  put16(ip, from_port);
  put16(ip, to_port);
  put32(ip, sequence);
  put32(ip, acknowledgement);
  ip.insert(ip.end(), {0x50, flags});
  put16(ip, 0xffff);
  ip.resize(ip.size() + 4);
  store_le<u16>(&ip[36], internet_sum(pseudo));
  ip.insert(ip.end(), text.begin(), text.end());
  return ethernet(kIp, ip);
}

TEST_F(UserBackendTest, StreamFromTheHostIsNotMarkedUrgent) {
  ASSERT_TRUE(make());
  u16 port = 0;
  Fd listener = host_socket(SOCK_STREAM, port);
  ::listen(listener.get(), 1);
  send(arp(1, kGuestIp, kHostIp));
  send(tcp(kHostIp, 4000, port, 100, 0, 0x02), 34, 16);
  Bytes accept = wait_frame([](const Bytes& f) { return is_ip(f, 6) && (f[47] & 0x12) == 0x12; });
  ASSERT_FALSE(accept.empty());
  send(tcp(kHostIp, 4000, port, 101, load_be<u32>(&accept[38]) + 1, 0x10), 34, 16);
  for (int i = 0; i < 5; ++i) loop_->run_once(0);  // the socket is being watched when the data comes
  Fd connection(::accept(listener.get(), nullptr, nullptr));
  ASSERT_EQ(::write(connection.get(), "stream", 6), 6);
  Bytes data = wait_frame([](const Bytes& f) { return is_ip(f, 6) && f.size() == 60; });
  ASSERT_FALSE(data.empty());
  EXPECT_EQ(std::memcmp(&data[54], "stream", 6), 0);
  EXPECT_FALSE(data[47] & 0x20);
}

TEST_F(UserBackendTest, FramesWaitForTheGuestsRoom) {
  ASSERT_TRUE(make());
  sink_.room = false;
  send(arp(1, kGuestIp, kHostIp));
  for (int i = 0; i < 5; ++i) loop_->run_once(0);
  EXPECT_TRUE(sink_.frames.empty());
  sink_.room = true;
  backend_->resume_receive();
  EXPECT_TRUE(is_arp(sink_.frames.at(0), 2));
}

TEST_F(UserBackendTest, FramesThatCannotBeAreDropped) {
  ASSERT_TRUE(make());
  send({});
  send({1, 2, 3});
  send(udp(kHostIp, 1, 2, "x"), 60000, 6);
  Bytes huge(200000, 0x45);
  send(huge);
  loop_->run_once(0);
}

TEST_F(UserBackendTest, WrongOptionsAreNamed) {
  auto text = [this](UserOptions options) {
    auto status = make(std::move(options));
    return status ? std::string() : status.error().text();
  };
  EXPECT_NE(text({.id = "n0", .net = "10.0.2.0/99"}).find("user network n0: net=10.0.2.0/99"), std::string::npos);
  EXPECT_NE(text({.net = "nonsense"}).find("net=nonsense"), std::string::npos);
  EXPECT_NE(text({.dns = "192.168.9.9"}).find("dns lies outside"), std::string::npos);
  EXPECT_NE(text({.forwards = {{.host_address = "x", .host_port = 1, .guest_port = 1}}}).find("tcp:x:1-"), std::string::npos);
}

TEST_F(UserBackendTest, PortInUseIsReportedByRule) {
  u16 port = 0;
  Fd taken = host_socket(SOCK_STREAM, port);
  ::listen(taken.get(), 1);
  auto status = make({.forwards = {{.host_address = "127.0.0.1", .host_port = port, .guest_port = 22}}});
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().text().find("Could not set up host forwarding rule"), std::string::npos);
}

}  // namespace
}  // namespace atl::net
