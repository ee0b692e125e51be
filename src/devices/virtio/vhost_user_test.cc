#include <gtest/gtest.h>

#include <sys/socket.h>

#include "devices/nic/virtio_net_spec.h"
#include "devices/virtio/fake_vhost_back_end.h"
#include "devices/virtio/test_driver.h"
#include "devices/virtio/vhost_user_device.h"

namespace atl::devices {
namespace {

constexpr u64 kRam = 1 * kMiB;

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }

class VhostUserTest : public testing::Test {
 protected:
  void make(FakeVhostBackEnd::Habits habits = {}, std::optional<VhostUserShape> shape = std::nullopt) {
    back_end_.emplace(habits);
    auto peer = VhostUser::create(back_end_->take_front_end());
    ASSERT_TRUE(peer) << peer.error().text();
    auto ram = guest_.space().guest_memory()->find(0)->block;
    device_ = MUST(VhostUserDevice::create(shape.value_or(vhost_user_fs("share", 1, 16)), std::move(*peer), std::move(ram), *loop_, guest_.space()));
    driver_.emplace(guest_, *device_);
  }
  void TearDown() override {
    driver_.reset();
    device_.reset();
  }
  GuestAddr put(std::string_view text) { return guest_.put({reinterpret_cast<const u8*>(text.data()), text.size()}); }

  TestGuest guest_{kRam, {.backing = memory::RamOptions::Backing::Memfd, .shared = true}};
  std::unique_ptr<Loop> loop_ = make_loop();
  std::optional<FakeVhostBackEnd> back_end_;
  std::unique_ptr<VhostUserDevice> device_;
  std::optional<TestDriver> driver_;
};

TEST_F(VhostUserTest, RequestsReachTheBackEndAndComeBack) {
  make();
  driver_->start(0);
  const GuestAddr in = put("hello"), out = guest_.allocate(16);
  auto used = driver_->request(1, {{in, 5, false}, {out, 16, true}});
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 5u);
  EXPECT_EQ(guest_.text(out, 5), "HELLO");
  EXPECT_EQ(driver_->interrupts[1], 1);
}

TEST_F(VhostUserTest, PackedRingsAndIndirectTablesNeedNothingOfTheBackEnd) {
  make();
  driver_->start(virtio::kFeaturePacked | virtio::kFeatureIndirect | virtio::kFeatureEventIdx);
  for (int i = 0; i < 100; ++i) {
    const GuestAddr in = put("ab"), more = put("cd"), out = guest_.allocate(4);
    driver_->queue(1).add({{in, 2, false}, {more, 2, false}, {out, 4, true}}, true);
    driver_->kick(1);
    ASSERT_TRUE(driver_->wait_used(1));
    ASSERT_EQ(guest_.text(out, 4), "ABCD");
  }
  EXPECT_EQ(back_end_->driver_features(), virtio::kFeatureVersion1 | u64{1} << 30);
}

TEST_F(VhostUserTest, ConfigurationNamesTheFileSystem) {
  make();
  std::array<u8, 40> config;
  device_->config_read(0, config);
  EXPECT_EQ(std::string(reinterpret_cast<char*>(config.data())), "share");
  EXPECT_EQ(load_le<u32>(&config[36]), 1u);
}

TEST_F(VhostUserTest, WhatTheBackEndHasNotTakenWaitsThroughAPause) {
  make({.serves = false});
  driver_->start(0);
  driver_->queue(1).add({{put("x"), 1, false}, {guest_.allocate(4), 4, true}});
  driver_->kick(1);
  bool paused = false;
  device_->quiesce([&] { paused = true; });
  driver_->settle();
  EXPECT_TRUE(paused);
  EXPECT_EQ(back_end_->requests_seen(11), 2);
  EXPECT_FALSE(driver_->queue(1).take_used());
  device_->resume();
  driver_->settle();
  EXPECT_EQ(back_end_->requests_seen(12), 4);
  EXPECT_EQ(driver_->reset_requests, 0);
}

TEST_F(VhostUserTest, AResetDriverStartsAnew) {
  make();
  for (int round = 0; round < 3; ++round) {
    driver_->start(0);
    const GuestAddr out = guest_.allocate(4);
    ASSERT_TRUE(driver_->request(1, {{put("ok"), 2, false}, {out, 4, true}}));
    EXPECT_EQ(guest_.text(out, 2), "OK");
    driver_->stop();
  }
}

TEST_F(VhostUserTest, ABackEndThatHangsUpEndsTheDeviceAndItsRequests) {
  make({.serves = false});
  driver_->start(0);
  driver_->queue(1).add({{put("x"), 1, false}, {guest_.allocate(4), 4, true}});
  driver_->kick(1);
  back_end_->hang_up();
  auto used = driver_->wait_used(1);
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 0u);
  EXPECT_EQ(driver_->reset_requests, 1);
}

TEST_F(VhostUserTest, CompletionsThatNobodyWaitsForEndTheDevice) {
  make({.lies_about_used = true});
  driver_->start(0);
  auto used = driver_->request(1, {{put("x"), 1, false}, {guest_.allocate(4), 4, true}});
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 0u);
  EXPECT_EQ(driver_->reset_requests, 1);
}

TEST_F(VhostUserTest, ABackEndThatGoesDuringSetUpEndsTheDevice) {
  make({.hangs_up_at = 12});
  driver_->start(0);
  EXPECT_GE(driver_->reset_requests, 1);
}

TEST_F(VhostUserTest, OffersOfANicWhatItsBackEndCan) {
  using namespace virtio_net;
  const std::array<u8, 6> mac = {2, 0, 0, 0, 0, 1};
  make({.features = u64{1} << 32 | u64{1} << 30 | kFeatureCsum | kFeatureCtrlQueue}, vhost_user_net(mac, 1400, 256, true));
  EXPECT_TRUE(device_->features() & kFeatureCsum);
  EXPECT_FALSE(device_->features() & (kFeatureMergeable | kFeatureCtrlQueue));
  device_->set_link(false);
  std::array<u8, 12> config;
  device_->config_read(0, config);
  EXPECT_EQ(config[kConfigStatus], 0);
  EXPECT_EQ(load_le<u16>(&config[kConfigMtu]), 1400);
  EXPECT_EQ(driver_->config_interrupts, 1);
}

TEST_F(VhostUserTest, RefusesABackEndWithoutProtocolFeatures) {
  FakeVhostBackEnd old({.features = u64{1} << 32});
  auto peer = VhostUser::create(old.take_front_end());
  ASSERT_FALSE(peer);
  EXPECT_NE(peer.error().text().find("protocol features"), std::string::npos);
}

TEST_F(VhostUserTest, AnAnswerToAnotherQuestionIsAnError) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  Fd front(ends[0]), back(ends[1]);
  const std::array<u32, 5> answer = {2, 5, 8, 0, 0};
  ASSERT_EQ(::write(back.get(), answer.data(), 20), 20);
  auto peer = VhostUser::create(std::move(front));
  ASSERT_FALSE(peer);
  EXPECT_NE(peer.error().text().find("GET_FEATURES"), std::string::npos);
}

}  // namespace
}  // namespace atl::devices
