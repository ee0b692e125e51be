#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/socket.h>

#include "base/sockets.h"
#include "devices/virtio/test_driver.h"
#include "devices/virtio/vsock.h"

namespace atl::devices {
namespace {

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }

struct Packet {
  u64 source = 3, target = 2;
  u32 source_port = 0, target_port = 0, length = 0;
  u16 type = 1, operation = 0;
  u32 flags = 0, buffer = 4096, forwarded = 0;
} __attribute__((packed));
static_assert(sizeof(Packet) == 44);

class VsockTest : public testing::Test {
 protected:
  VsockTest() {
    char folder[] = "/tmp/atoll-vsock-XXXXXX";
    folder_ = ::mkdtemp(folder);
    path_ = folder_ + "/sock";
    device_ = MUST(VirtioVsock::create({.guest_cid = 3, .path = path_}, *loop_, guest_.space()));
    driver_.emplace(guest_, *device_);
    driver_->start(0);
    for (int i = 0; i < 8; ++i) give_buffer();
  }
  ~VsockTest() override {
    driver_.reset();
    device_.reset();
    ::unlink((path_ + "_80").c_str());
    ::rmdir(folder_.c_str());
  }
  void give_buffer() {
    buffers_.push_back(guest_.allocate(4096));
    driver_->queue(0).add({{buffers_.back(), 4096, true}});
    driver_->kick(0);
  }
  Packet next(std::string* data = nullptr) {
    auto used = driver_->wait_used(0);
    EXPECT_TRUE(used);
    Packet packet;
    const GuestAddr at = buffers_[taken_++];
    std::memcpy(&packet, guest_.at(at), sizeof packet);
    if (data) *data = guest_.text(at + sizeof packet, packet.length);
    return packet;
  }
  void send(Packet packet, std::string_view data = {}) {
    packet.length = static_cast<u32>(data.size());
    const GuestAddr at = guest_.allocate(sizeof packet + data.size());
    std::memcpy(guest_.at(at), &packet, sizeof packet);
    if (!data.empty()) std::memcpy(guest_.at(at + sizeof packet), data.data(), data.size());
    driver_->queue(1).add({{at, static_cast<u32>(sizeof packet + data.size()), false}});
    driver_->kick(1);
    EXPECT_TRUE(driver_->wait_used(1));
  }
  Fd connect() {
    auto address = MUST(unix_address(path_));
    Fd fd = MUST(make_socket(AF_UNIX));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  std::string read(const Fd& fd, size_t wanted) {
    std::string text;
    for (int i = 0; i < 5000 && text.size() < wanted; ++i) {
      char bytes[256];
      const ssize_t n = ::recv(fd.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (n > 0) text.append(bytes, static_cast<size_t>(n));
      else if (n == 0) break;
      else loop_->run_once(1'000'000);
    }
    return text;
  }

  TestGuest guest_;
  std::unique_ptr<Loop> loop_ = make_loop();
  std::string folder_, path_;
  std::unique_ptr<VirtioVsock> device_;
  std::optional<TestDriver> driver_;
  std::vector<GuestAddr> buffers_;
  size_t taken_ = 0;
};

TEST_F(VsockTest, AProgramOfTheHostReachesTheGuestsPort) {
  Fd host = connect();
  ASSERT_EQ(::send(host.get(), "CONNECT 1234\nhello", 18, 0), 18);
  const Packet request = next();
  EXPECT_EQ(request.operation, 1);
  EXPECT_EQ(request.target_port, 1234u);
  send({.source_port = 1234, .target_port = request.source_port, .operation = 2});
  EXPECT_EQ(read(host, 3).substr(0, 3), "OK ");
  std::string data;
  EXPECT_EQ(next(&data).operation, 5);
  EXPECT_EQ(data, "hello");
  send({.source_port = 1234, .target_port = request.source_port, .operation = 5}, "world");
  EXPECT_EQ(read(host, 5), "world");
}

TEST_F(VsockTest, TheGuestReachesWhoListensBesideTheSocket) {
  Fd listener = MUST(listen_unix(path_ + "_80"));
  send({.source_port = 5, .target_port = 80, .operation = 1});
  EXPECT_EQ(next().operation, 2);
  Fd peer(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK));
  ASSERT_TRUE(peer);
  send({.source_port = 5, .target_port = 80, .operation = 5}, "get");
  EXPECT_EQ(read(peer, 3), "get");
  peer.reset();
  EXPECT_EQ(next().operation, 4);
  send({.source_port = 5, .target_port = 80, .operation = 4, .flags = 3});
  EXPECT_EQ(next().operation, 3);
}

TEST_F(VsockTest, NobodyListeningIsAReset) {
  send({.source_port = 5, .target_port = 81, .operation = 1});
  EXPECT_EQ(next().operation, 3);
}

TEST_F(VsockTest, DataStopsWhereTheGuestsCreditEnds) {
  Fd listener = MUST(listen_unix(path_ + "_80"));
  send({.source_port = 5, .target_port = 80, .operation = 1, .buffer = 4});
  next();
  Fd peer(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK));
  ASSERT_EQ(::send(peer.get(), "abcdef", 6, 0), 6);
  std::string data;
  next(&data);
  EXPECT_EQ(data, "abcd");
  send({.source_port = 5, .target_port = 80, .operation = 6, .buffer = 4, .forwarded = 4});
  next(&data);
  EXPECT_EQ(data, "ef");
}

TEST_F(VsockTest, AGuestThatSendsMoreThanItMayIsCutOff) {
  Fd listener = MUST(listen_unix(path_ + "_80"));
  send({.source_port = 5, .target_port = 80, .operation = 1});
  next();
  const std::string much(60000, 'x');
  u16 last = 0;
  for (int i = 0; i < 40 && last != 3; ++i) {
    send({.source_port = 5, .target_port = 80, .operation = 5}, much);
    driver_->settle();
    if (driver_->queue(0).take_used()) std::memcpy(&last, guest_.at(buffers_[taken_++] + 30), 2);
  }
  EXPECT_EQ(last, 3);
}

TEST_F(VsockTest, NonsenseGetsAReset) {
  send({.source_port = 5, .target_port = 80, .operation = 99});
  EXPECT_EQ(next().operation, 3);
  send({.target = 9, .source_port = 5, .target_port = 80, .operation = 1});
  EXPECT_EQ(next().operation, 3);
  Fd host = connect();
  ASSERT_EQ(::send(host.get(), "GET / HTTP\n", 11, 0), 11);
  EXPECT_EQ(read(host, 1), "");
}

}  // namespace
}  // namespace atl::devices
