#include "devices/nic/virtio_net.h"

#include <gtest/gtest.h>

#include <deque>
#include <numeric>

#include "devices/nic/virtio_net_spec.h"
#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

using namespace virtio_net;

struct FakeNet final : net::Backend {
  explicit FakeNet(Loop& new_loop, bool new_header) : its_loop(new_loop), header(new_header) {}
  void set_sink(net::FrameSink* new_sink) override { sink = new_sink; }
  bool send(std::span<const iovec> frame) override {
    std::string bytes;
    for (const iovec& part : frame) bytes.append(static_cast<const char*>(part.iov_base), part.iov_len);
    sent.push_back(bytes);
    return true;
  }
  void flush() override { ++flushes; }
  void resume_receive() override { ++resumes; }
  bool has_vnet_header() const override { return header; }
  net::Offloads offloads() const override { return {.checksum = true, .tso4 = true}; }
  void set_offloads(const net::Offloads& guest) override { accepted = guest; }
  std::string describe() const override { return "fake"; }
  Loop& loop() override { return its_loop; }
  bool give(std::string frame) {
    std::vector<iovec> parts = {{frame.data(), 10}, {frame.data() + 10, frame.size() - 10}};
    return sink->receive(parts);
  }

  Loop& its_loop;
  bool header;
  net::FrameSink* sink = nullptr;
  std::deque<std::string> sent;
  net::Offloads accepted;
  int flushes = 0, resumes = 0;
};

constexpr MacAddress kMac = {0x52, 0x54, 0, 1, 2, 3};

class VirtioNetTest : public testing::Test {
 protected:
  void make(u64 features, bool header = false) {
    loop_ = std::move(*Loop::create());
    backend_.emplace(*loop_, header);
    device_.emplace(VirtioNetOptions{.mac = kMac}, &*backend_, *loop_, guest_.space());
    driver_.emplace(guest_, *device_);
    driver_->start(features);
  }
  ~VirtioNetTest() override {
    driver_.reset();
    device_.reset();
  }
  static std::string frame_to(std::string_view mac, size_t size = 60) {
    std::string frame(mac);
    for (size_t i = frame.size(); i < size; ++i) frame += static_cast<char>(i);
    return frame;
  }
  static std::string own_frame(size_t size = 60) { return frame_to({reinterpret_cast<const char*>(kMac.data()), 6}, size); }
  u8 control(std::vector<u8> command) {
    GuestAddr ack = guest_.allocate(1);
    *guest_.at(ack) = 0x55;
    GuestAddr at = guest_.put(command);
    driver_->request(2, {{at, static_cast<u32>(command.size()), false}, {ack, 1, true}});
    return *guest_.at(ack);
  }

  TestGuest guest_;
  std::unique_ptr<Loop> loop_;
  std::optional<FakeNet> backend_;
  std::optional<VirtioNet> device_;
  std::optional<TestDriver> driver_;
};

TEST_F(VirtioNetTest, SendsWithoutTheHeaderToAPlainBackend) {
  make(0);
  std::string bytes = std::string(12, '\0') + own_frame();
  GuestAddr at = guest_.put({reinterpret_cast<const u8*>(bytes.data()), bytes.size()});
  ASSERT_TRUE(driver_->request(1, {{at, 12, false}, {at + 12, 60, false}}));
  ASSERT_EQ(backend_->sent.size(), 1u);
  EXPECT_EQ(backend_->sent[0], own_frame());
  EXPECT_EQ(backend_->flushes, 1);
}

TEST_F(VirtioNetTest, SendsWithTheHeaderWhereTheBackendHasOne) {
  make(kFeatureCsum, true);
  std::string bytes = "\1" + std::string(11, '\0') + own_frame();
  GuestAddr at = guest_.put({reinterpret_cast<const u8*>(bytes.data()), bytes.size()});
  ASSERT_TRUE(driver_->request(1, {{at, static_cast<u32>(bytes.size()), false}}));
  EXPECT_EQ(backend_->sent[0], bytes);
}

TEST_F(VirtioNetTest, ReceivesIntoOneBufferWithAZeroHeader) {
  make(0);
  GuestAddr at = guest_.allocate(2048);
  std::fill_n(guest_.at(at), 2048, u8{0xee});
  driver_->queue(0).add({{at, 2048, true}});
  driver_->kick(0);
  EXPECT_TRUE(backend_->give(own_frame()));
  EXPECT_EQ(driver_->interrupts[0], 0);
  backend_->sink->received_batch();
  EXPECT_EQ(driver_->interrupts[0], 1);
  EXPECT_EQ(driver_->queue(0).take_used()->written, 72u);
  EXPECT_EQ(guest_.text(at, 12), std::string_view("\0\0\0\0\0\0\0\0\0\0\1\0", 12));
  EXPECT_EQ(guest_.text(at + 12, 60), own_frame());
}

TEST_F(VirtioNetTest, MergesBuffersForALongFrame) {
  make(kFeatureMergeable);
  GuestAddr at = guest_.allocate(4096);
  for (u32 i = 0; i < 4; ++i) driver_->queue(0).add({{at + 512 * i, 512, true}});
  driver_->kick(0);
  ASSERT_TRUE(backend_->give(own_frame(1500)));
  EXPECT_EQ(load_le<u16>(guest_.at(at + 10)), 3);
  EXPECT_EQ(driver_->queue(0).take_used()->written, 512u);
  EXPECT_EQ(driver_->queue(0).take_used()->written, 512u);
  EXPECT_EQ(driver_->queue(0).take_used()->written, 1512u - 1024);
  EXPECT_FALSE(driver_->queue(0).take_used());
  EXPECT_EQ(guest_.text(at + 12, 1500), own_frame(1500));
}

TEST_F(VirtioNetTest, TooFewBuffersHoldTheBackendUntilThereAreMore) {
  make(kFeatureMergeable);
  GuestAddr at = guest_.allocate(4096);
  driver_->queue(0).add({{at, 512, true}});
  driver_->kick(0);
  int before = backend_->resumes;
  EXPECT_FALSE(backend_->give(own_frame(1500)));
  EXPECT_FALSE(driver_->queue(0).take_used());
  driver_->queue(0).add({{at + 512, 2048, true}});
  EXPECT_TRUE(driver_->queue(0).kick_needed());
  driver_->kick(0);
  EXPECT_EQ(backend_->resumes, before + 1);
  EXPECT_TRUE(backend_->give(own_frame(1500)));
}

TEST_F(VirtioNetTest, FrameThatFitsNoBufferIsDropped) {
  make(0);
  driver_->queue(0).add({{guest_.allocate(512), 512, true}});
  driver_->kick(0);
  EXPECT_TRUE(backend_->give(own_frame(1500)));
  EXPECT_FALSE(driver_->queue(0).take_used());
  EXPECT_TRUE(backend_->give(own_frame(100)));
  EXPECT_TRUE(driver_->queue(0).take_used());
}

TEST_F(VirtioNetTest, NothingIsReceivedBeforeTheDriverIsUp) {
  make(0);
  driver_->stop();
  EXPECT_FALSE(backend_->give(own_frame()));
  driver_->start(0);
  EXPECT_EQ(backend_->resumes, 1);
}

TEST_F(VirtioNetTest, FilterLetsThroughWhatWasAskedFor) {
  make(kFeatureCtrlQueue | kFeatureCtrlRx | kFeatureMergeable);
  for (int i = 0; i < 8; ++i) driver_->queue(0).add({{guest_.allocate(512), 512, true}});
  driver_->kick(0);
  auto arrives = [&](std::string_view mac) {
    EXPECT_TRUE(backend_->give(frame_to(mac)));
    return driver_->queue(0).take_used().has_value();
  };
  EXPECT_TRUE(arrives("\x02other"));
  EXPECT_EQ(control({kClassRx, 0, 0}), kOk);
  EXPECT_FALSE(arrives("\x02other"));
  EXPECT_TRUE(arrives({reinterpret_cast<const char*>(kMac.data()), 6}));
  EXPECT_TRUE(arrives("\xff\xff\xff\xff\xff\xff"));
  EXPECT_FALSE(arrives("\x01multi"));
  EXPECT_EQ(control({kClassMac, 0, 1, 0, 0, 0, 2, 'o', 't', 'h', 'e', 'r', 1, 0, 0, 0, 1, 'm', 'u', 'l', 't', 'i'}), kOk);
  EXPECT_TRUE(arrives("\x02other"));
  EXPECT_TRUE(arrives("\x01multi"));
  EXPECT_EQ(control({kClassMac, 1, 2, 'o', 'w', 'n', 'e', 'r'}), kOk);
  EXPECT_TRUE(arrives("\x02owner"));
  EXPECT_FALSE(arrives({reinterpret_cast<const char*>(kMac.data()), 6}));
}

TEST_F(VirtioNetTest, VlansPassOnceTheyAreAdded) {
  make(kFeatureCtrlQueue | kFeatureCtrlRx | kFeatureCtrlVlan | kFeatureMergeable);
  for (int i = 0; i < 4; ++i) driver_->queue(0).add({{guest_.allocate(512), 512, true}});
  driver_->kick(0);
  std::string tagged = own_frame();
  tagged.replace(12, 4, std::string_view("\x81\x00\x00\x07", 4));
  backend_->give(tagged);
  EXPECT_TRUE(driver_->queue(0).take_used());  // everything is received until the driver says otherwise
  EXPECT_EQ(control({kClassRx, 0, 0}), kOk);
  backend_->give(tagged);
  EXPECT_FALSE(driver_->queue(0).take_used());
  EXPECT_EQ(control({kClassVlan, 0, 7, 0}), kOk);
  backend_->give(tagged);
  EXPECT_TRUE(driver_->queue(0).take_used());
}

TEST_F(VirtioNetTest, MalformedCommandsAreAnsweredWithAnError) {
  make(kFeatureCtrlQueue);
  EXPECT_EQ(control({}), kError);
  EXPECT_EQ(control({kClassRx}), kError);
  EXPECT_EQ(control({kClassRx, 9, 1}), kError);
  EXPECT_EQ(control({kClassMac, 0, 0xff, 0xff, 0xff, 0xff}), kError);
  EXPECT_EQ(control({kClassVlan, 0, 0, 0x10}), kError);
  EXPECT_EQ(control({77, 0}), kError);
}

TEST_F(VirtioNetTest, GuestOffloadsReachTheBackend) {
  make(kFeatureGuestCsum | kFeatureGuestTso4 | kFeatureCtrlQueue | kFeatureCtrlGuestOffloads, true);
  EXPECT_TRUE(backend_->accepted.checksum && backend_->accepted.tso4);
  EXPECT_EQ(control({kClassGuestOffloads, 0, 2, 0, 0, 0, 0, 0, 0, 0}), kOk);
  EXPECT_TRUE(backend_->accepted.checksum);
  EXPECT_FALSE(backend_->accepted.tso4);
  EXPECT_EQ(control({kClassGuestOffloads, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0}), kError);
}

TEST_F(VirtioNetTest, LinkDownDropsBothWays) {
  make(0);
  device_->set_link(false);
  EXPECT_EQ(driver_->config_interrupts, 1);
  driver_->queue(0).add({{guest_.allocate(512), 512, true}});
  EXPECT_TRUE(backend_->give(own_frame()));
  EXPECT_FALSE(driver_->queue(0).take_used());
  GuestAddr at = guest_.allocate(72);
  ASSERT_TRUE(driver_->request(1, {{at, 72, false}}));
  EXPECT_TRUE(backend_->sent.empty());
}

}  // namespace
}  // namespace atl::devices
