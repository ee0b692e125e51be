#include "net/socket_backend.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>

#include "base/clock.h"
#include "base/endian.h"

namespace atl::net {
namespace {

using ::testing::ElementsAre;
using Frame = std::vector<u8>;
using Kind = SocketOptions::Kind;
constexpr u64 kPatience_ns = 20'000'000'000;

struct Card final : FrameSink {
  bool receive(std::span<const iovec> parts) override {
    if (!room) return false;
    Frame frame;
    for (const iovec& p : parts) frame.insert(frame.end(), static_cast<u8*>(p.iov_base), static_cast<u8*>(p.iov_base) + p.iov_len);
    frames.push_back(std::move(frame));
    return true;
  }
  bool room = true;
  std::vector<Frame> frames;
};

class SocketBackendTest : public testing::Test {
 protected:
  SocketBackendTest() {
    char pattern[] = "/tmp/atoll-wire-XXXXXX";
    folder_ = ::mkdtemp(pattern);
  }
  ~SocketBackendTest() override { (void)!std::system(("rm -r " + folder_).c_str()); }

  std::unique_ptr<Backend> make(SocketOptions options) {
    auto made = create_socket_backend(*loop_, options);
    EXPECT_TRUE(made) << made.error().text();
    return made ? std::move(*made) : nullptr;
  }
  std::unique_ptr<Backend> adopt(int type, int& peer) {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
    peer = pair[1];
    return make({.id = "a", .kind = Kind::Adopted, .local = {}, .remote = {}, .fd = pair[0]});
  }
  static bool send(Backend& to, Frame frame) {
    const iovec part{frame.data(), frame.size()};
    return to.send({&part, 1});
  }
  template <class F>
  bool until(F done) {
    const u64 end = monotonic_ns() + kPatience_ns;
    while (!done() && monotonic_ns() < end) loop_->run_once(10'000'000);
    return done();
  }
  SocketOptions::Address path(const char* name) const { return {.host = "", .port = "", .path = folder_ + "/" + name}; }

  std::unique_ptr<Loop> loop_ = std::move(*Loop::create());
  std::string folder_;
  Card card_, other_;
};

TEST_F(SocketBackendTest, FramesCrossAStreamBothWays) {
  auto server = make({.id = "s", .kind = Kind::Listen, .local = path("s"), .remote = {}});
  auto client = make({.id = "c", .kind = Kind::Connect, .local = {}, .remote = path("s")});
  server->set_sink(&card_);
  client->set_sink(&other_);
  ASSERT_TRUE(until([&] { return server->describe().ends_with("connected"); }));
  EXPECT_TRUE(send(*client, Frame(60, 1)));
  EXPECT_TRUE(send(*client, Frame(65536, 2)));
  ASSERT_TRUE(until([&] { return card_.frames.size() == 2; }));
  EXPECT_EQ(card_.frames[1], Frame(65536, 2));
  EXPECT_TRUE(send(*server, Frame(99, 3)));
  EXPECT_TRUE(until([&] { return other_.frames.size() == 1; }));
}

TEST_F(SocketBackendTest, ListenerTakesTheNextPeerWhenOneHasGone) {
  auto server = make({.id = "s", .kind = Kind::Listen, .local = path("s"), .remote = {}});
  server->set_sink(&card_);
  for (u8 i = 0; i < 2; ++i) {
    auto client = make({.id = "c", .kind = Kind::Connect, .local = {}, .remote = path("s")});
    bool sent = false;
    ASSERT_TRUE(until([&] { return sent = sent || send(*client, Frame(60, i)); }));
    ASSERT_TRUE(until([&] { return card_.frames.size() == i + 1u; }));
  }
  server.reset();
  struct stat gone;
  EXPECT_NE(::stat(path("s").path.c_str(), &gone), 0);
}

TEST_F(SocketBackendTest, DatagramsCarryAFrameEach) {
  auto a = make({.id = "a", .kind = Kind::Datagram, .local = path("a"), .remote = path("b")});
  auto b = make({.id = "b", .kind = Kind::Datagram, .local = path("b"), .remote = path("a")});
  b->set_sink(&card_);
  EXPECT_TRUE(send(*a, {1, 2, 3}));
  EXPECT_TRUE(send(*a, {4}));
  ASSERT_TRUE(until([&] { return card_.frames.size() == 2; }));
  EXPECT_THAT(card_.frames, ElementsAre(Frame{1, 2, 3}, Frame{4}));
}

TEST_F(SocketBackendTest, StreamWithAnImpossibleLengthIsClosed) {
  int peer = -1;
  auto wire = adopt(SOCK_STREAM, peer);
  wire->set_sink(&card_);
  std::string why;
  wire->on_failure = [&](std::string text) { why = std::move(text); };
  u8 bad[8] = {0x7f, 0xff, 0xff, 0xff};
  ASSERT_EQ(::write(peer, bad, sizeof bad), 8);
  EXPECT_TRUE(until([&] { return !why.empty(); }));
  EXPECT_FALSE(send(*wire, {1}));
  ::close(peer);
}

TEST_F(SocketBackendTest, FrameWaitsForACardWithoutRoom) {
  int peer = -1;
  auto wire = adopt(SOCK_STREAM, peer);
  card_.room = false;
  wire->set_sink(&card_);
  const u8 two[] = {0, 0, 0, 1, 7, 0, 0, 0, 1, 8};
  ASSERT_EQ(::write(peer, two, sizeof two), 10);
  for (int i = 0; i < 5; ++i) loop_->run_once(1'000'000);
  EXPECT_TRUE(card_.frames.empty());
  card_.room = true;
  wire->resume_receive();
  EXPECT_THAT(card_.frames, ElementsAre(Frame{7}, Frame{8}));
  ::close(peer);
}

TEST_F(SocketBackendTest, PeerThatDoesNotReadCostsABoundedBuffer) {
  int peer = -1;
  auto wire = adopt(SOCK_STREAM, peer);
  int sent = 0;
  while (sent < 10000 && send(*wire, Frame(60000))) ++sent;
  EXPECT_LT(sent, 100);
  ::close(peer);
}

TEST_F(SocketBackendTest, ErrorsNameTheAddress) {
  auto nobody = create_socket_backend(*loop_, {.id = "c", .kind = Kind::Connect, .local = {}, .remote = path("none")});
  ASSERT_FALSE(nobody);
  EXPECT_THAT(nobody.error().text(), testing::HasSubstr("/none"));
  const SocketOptions::Address no_group{.host = "127.0.0.1", .port = "1", .path = ""};
  EXPECT_FALSE(create_socket_backend(*loop_, {.id = "m", .kind = Kind::Multicast, .local = {}, .remote = no_group}));
  EXPECT_FALSE(create_socket_backend(*loop_, {.id = "f", .kind = Kind::Adopted, .local = {}, .remote = {}, .fd = ::open("/dev/null", O_RDONLY)}));
}

}  // namespace
}  // namespace atl::net
