#include "net/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atl::net {
namespace {

using ::testing::ElementsAre;
using Frame = std::vector<u8>;

Frame join(std::span<const iovec> parts) {
  Frame frame;
  for (const iovec& p : parts) frame.insert(frame.end(), static_cast<u8*>(p.iov_base), static_cast<u8*>(p.iov_base) + p.iov_len);
  return frame;
}

struct Card final : FrameSink {
  bool receive(std::span<const iovec> parts) override {
    if (room == 0) return false;
    --room;
    frames.push_back(join(parts));
    return true;
  }
  int room = 100;
  std::vector<Frame> frames;
};

/// A back end with an offload header.
struct Wire final : Backend {
  explicit Wire(Loop& l) : on_loop(l) {}
  void set_sink(FrameSink* s) override { sink = s; }
  bool send(std::span<const iovec> parts) override {
    sent.push_back(join(parts));
    return true;
  }
  void resume_receive() override {}
  bool has_vnet_header() const override { return true; }
  Offloads offloads() const override { return {.checksum = true}; }
  void set_offloads(const Offloads& guest) override { checksums = guest.checksum; }
  std::string describe() const override { return "wire"; }
  Loop& loop() override { return on_loop; }

  Loop& on_loop;
  FrameSink* sink = nullptr;
  bool checksums = true;
  std::vector<Frame> sent;
};

class HubTest : public testing::Test {
 protected:
  static void send(Backend& port, Frame frame) {
    const iovec part{frame.data(), frame.size()};
    port.send({&part, 1});
  }
  std::unique_ptr<Loop> loop_ = std::move(*Loop::create());
  Hub hub_{*loop_};
  Card a_, b_;
};

TEST_F(HubTest, FramesGoToAllOtherPorts) {
  auto first = hub_.add_port({.id = "1"}, nullptr), second = hub_.add_port({.id = "2"}, nullptr), third = hub_.add_port({.id = "3"}, nullptr);
  first->set_sink(&a_);
  second->set_sink(&b_);
  send(*third, {1, 2});
  send(*first, {3});
  EXPECT_THAT(a_.frames, ElementsAre(Frame{1, 2}));
  EXPECT_THAT(b_.frames, ElementsAre(Frame{1, 2}, Frame{3}));
  second.reset();
  send(*third, {4});
  EXPECT_EQ(b_.frames.size(), 2u);
}

TEST_F(HubTest, BackEndBehindAPortGetsAHeaderAndLosesIt) {
  Wire wire(*loop_);
  auto held = hub_.add_port({.id = "w", .hub = 1, .netdev = "n"}, &wire), card = hub_.add_port({.id = "c"}, nullptr);
  card->set_sink(&a_);
  EXPECT_FALSE(wire.checksums);
  send(*card, {7});
  ASSERT_EQ(wire.sent.size(), 1u);
  EXPECT_EQ(wire.sent[0].size(), kVnetHeaderBytes + 1);
  Frame with_header(kVnetHeaderBytes + 2, 9);
  const iovec part{with_header.data(), with_header.size()};
  wire.sink->receive({&part, 1});
  EXPECT_THAT(a_.frames, ElementsAre(Frame{9, 9}));
  held.reset();
  EXPECT_EQ(wire.sink, nullptr);
}

TEST_F(HubTest, CardWithoutRoomGetsItsFramesLaterInOrder) {
  auto slow = hub_.add_port({.id = "s"}, nullptr), other = hub_.add_port({.id = "o"}, nullptr);
  slow->set_sink(&a_);
  a_.room = 1;
  for (u8 i = 0; i < 3; ++i) send(*other, {i});
  a_.room = 1;
  slow->resume_receive();
  EXPECT_EQ(a_.frames.size(), 2u);
  a_.room = 10;
  slow->resume_receive();
  EXPECT_THAT(a_.frames, ElementsAre(Frame{0}, Frame{1}, Frame{2}));
  a_.room = 0;
  for (int i = 0; i < 3000; ++i) send(*other, Frame(1024));  // a bounded number waits
  a_.room = 10000;
  slow->resume_receive();
  EXPECT_LE(a_.frames.size(), 3u + 1024);
}

}  // namespace
}  // namespace atl::net
