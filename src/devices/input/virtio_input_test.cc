#include "devices/input/virtio_input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

std::unique_ptr<Loop> make_loop() {
  auto loop = Loop::create();
  EXPECT_TRUE(loop);
  return std::move(*loop);
}

class VirtioInputTest : public testing::Test {
 protected:
  void make(VirtioInputKind kind) {
    device_.emplace(kind, "serial", *loop_, guest_.space(), router_);
    driver_.emplace(guest_, *device_);
    driver_->start(0);
    for (int i = 0; i < 8; ++i) driver_->queue(0).add({{guest_.allocate(8), 8, true}});
    driver_->kick(0);
  }
  std::vector<u8> ask(u8 select, u8 subselect) {
    device_->config_write(0, std::vector<u8>{select, subselect});
    std::vector<u8> config(136);
    device_->config_read(0, config);
    return {config.begin() + 8, config.begin() + 8 + config[2]};
  }
  /// Type, code and value of what came.
  std::vector<std::array<u32, 3>> events() {
    driver_->settle();
    std::vector<std::array<u32, 3>> out;
    while (auto used = driver_->queue(0).take_used()) {
      const u8* at = guest_.at(first_ + 16u * used->id);
      out.push_back({load_le<u16>(at), load_le<u16>(at + 2), load_le<u32>(at + 4)});
    }
    return out;
  }

  TestGuest guest_;
  std::unique_ptr<Loop> loop_ = make_loop();
  display::InputRouter router_;
  std::optional<VirtioInput> device_;
  std::optional<TestDriver> driver_;
  GuestAddr first_ = 0;
};

using ::testing::ElementsAre;
using E = std::array<u32, 3>;

TEST_F(VirtioInputTest, ConfigurationFollowsTheSelection) {
  make(VirtioInputKind::Tablet);
  const std::vector<u8> name = ask(1, 0);
  EXPECT_EQ(std::string(name.begin(), name.end()), "QEMU Virtio Tablet");
  EXPECT_THAT(ask(0x11, 3), ElementsAre(3));                       // two axes
  EXPECT_EQ(ask(0x12, 0).size(), 20u);
  EXPECT_EQ(load_le<u32>(&ask(0x12, 1)[4]), 0x7fffu);
  EXPECT_TRUE(ask(0x12, 2).empty());
  EXPECT_TRUE(ask(0x55, 0).empty());
  EXPECT_TRUE(ask(0x11, 0x11).empty());
}

TEST_F(VirtioInputTest, KeysReachTheDriverOnceItRuns) {
  make(VirtioInputKind::Keyboard);
  first_ = guest_.allocate(16) - 8 * 16;
  ASSERT_TRUE(router_.key(0x1e, true));
  EXPECT_THAT(events(), ElementsAre(E{1, 30, 1}, E{0, 0, 0}));
  driver_->stop();
  EXPECT_FALSE(router_.key(0x1e, false));  // nobody is there
}

TEST_F(VirtioInputTest, PlacesWheelAndButtonsAreOneReport) {
  make(VirtioInputKind::Tablet);
  first_ = guest_.allocate(16) - 8 * 16;
  ASSERT_TRUE(router_.absolute());
  ASSERT_TRUE(router_.point({.x = 100, .y = 200, .wheel = -1, .buttons = display::kButtonRight}));
  EXPECT_THAT(events(), ElementsAre(E{3, 0, 100}, E{3, 1, 200}, E{2, 8, 1}, E{1, 0x111, 1}, E{0, 0, 0}));
}

TEST_F(VirtioInputTest, LightsComeFromTheStatusQueue) {
  make(VirtioInputKind::Keyboard);
  const GuestAddr at = guest_.put(std::vector<u8>{0x11, 0, 1, 0, 1, 0, 0, 0});
  ASSERT_TRUE(driver_->request(1, {{at, 8, false}}));
  EXPECT_EQ(router_.leds(), display::kLedCaps);
}

TEST_F(VirtioInputTest, EventsWithoutBuffersAreBounded) {
  make(VirtioInputKind::Mouse);
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(router_.move({.x = 1}));
  driver_->settle();
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(driver_->queue(0).take_used());
}

}  // namespace
}  // namespace atl::devices
