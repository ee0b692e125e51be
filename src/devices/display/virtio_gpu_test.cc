#include "devices/display/virtio_gpu.h"

#include <gtest/gtest.h>

#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

using namespace virtio_gpu;

std::unique_ptr<Loop> make_loop() {
  auto loop = Loop::create();
  EXPECT_TRUE(loop);
  return std::move(*loop);
}

class VirtioGpuTest : public testing::Test {
 protected:
  VirtioGpuTest() {
    driver_.emplace(guest_, device_);
    driver_->start(kFeatureEdid);
  }
  /// Sends a structure (with bytes behind it) and gives back the answer.
  template <class R = Header, class T>
  R ask(u32 type, T request, std::span<const u8> behind = {}, u16 queue = 0) {
    request.header.type = type;
    std::vector<u8> bytes(reinterpret_cast<const u8*>(&request), reinterpret_cast<const u8*>(&request) + sizeof request);
    bytes.insert(bytes.end(), behind.begin(), behind.end());
    const GuestAddr in = guest_.put(bytes), out = guest_.allocate(sizeof(R));
    const auto used = driver_->request(queue, {{in, static_cast<u32>(bytes.size()), false}, {out, sizeof(R), true}});
    EXPECT_TRUE(used);
    R answer;
    std::memcpy(&answer, guest_.at(out), sizeof answer);
    return answer;
  }
  u32 attach(u32 resource, const std::vector<BackingEntry>& entries, u32 count) {
    return ask(kAttachBacking, AttachBacking{{}, resource, count},
               {reinterpret_cast<const u8*>(entries.data()), entries.size() * sizeof(BackingEntry)}).type;
  }
  /// A picture of 4 by 2 in two pieces of memory, shown.
  void show_picture() {
    const GuestAddr first = guest_.allocate(20), second = guest_.allocate(12);
    for (u32 i = 0; i < 5; ++i) store_le<u32>(guest_.at(first + 4 * i), 0x11000000 + i);
    for (u32 i = 5; i < 8; ++i) store_le<u32>(guest_.at(second + 4 * (i - 5)), 0x11000000 + i);
    ASSERT_EQ(ask(kCreate2d, Create2d{{}, 7, kB8G8R8X8, 4, 2}).type, u32{kOkNoData});
    ASSERT_EQ(attach(7, {{first, 20, 0}, {second, 12, 0}}, 2), u32{kOkNoData});
    ASSERT_EQ(ask(kTransferToHost2d, Transfer{{}, {0, 0, 4, 2}, 0, 7, 0}).type, u32{kOkNoData});
    ASSERT_EQ(ask(kSetScanout, SetScanout{{}, {0, 0, 4, 2}, 0, 7}).type, u32{kOkNoData});
    ASSERT_EQ(ask(kFlush, Flush{{}, {0, 0, 4, 2}, 7, 0}).type, u32{kOkNoData});
  }
  display::Surface picture() {
    display::Surface s;
    device_.draw(s);
    return s;
  }

  TestGuest guest_;
  std::unique_ptr<Loop> loop_ = make_loop();
  display::ScreenList screens_;
  VirtioGpu device_{{.width = 800, .height = 600, .max_bytes = 1 << 20, .id = "gpu0"}, *loop_, guest_.space(), screens_};
  std::optional<TestDriver> driver_;
};

TEST_F(VirtioGpuTest, PictureOfTheDriverIsShown) {
  EXPECT_EQ(picture().width(), 800u);  // black, before
  show_picture();
  const display::Surface s = picture();
  ASSERT_EQ(s.width(), 4u);
  ASSERT_EQ(s.height(), 2u);
  for (u32 i = 0; i < 8; ++i) EXPECT_EQ(s.pixels()[i], i);
  EXPECT_EQ(screens_.find("gpu0"), &device_);
}

TEST_F(VirtioGpuTest, DriversResetShowsBlackAgain) {
  show_picture();
  driver_->stop();
  EXPECT_EQ(picture().width(), 800u);
}

TEST_F(VirtioGpuTest, WishedSizeIsToldByInfoAndEdid) {
  ASSERT_TRUE(device_.wish_size(1024, 768));
  driver_->settle();
  EXPECT_EQ(driver_->config_interrupts, 1);
  u8 events = 0;
  device_.config_read(0, {&events, 1});
  EXPECT_EQ(events, kEventDisplay);
  device_.config_write(4, std::vector<u8>{1, 0, 0, 0});
  driver_->settle();
  device_.config_read(0, {&events, 1});
  EXPECT_EQ(events, 0);
  struct Ask {
    Header header;
  };
  const auto info = ask<DisplayInfo>(kGetDisplayInfo, Ask{});
  EXPECT_EQ(info.modes[0].area.width, 1024u);
  EXPECT_EQ(info.modes[0].enabled, 1u);
  EXPECT_EQ(info.modes[1].enabled, 0u);
  const auto edid = ask<Edid>(kGetEdid, GetEdid{});
  EXPECT_EQ(edid.header.type, u32{kOkEdid});
  EXPECT_EQ(edid.data[56] | (edid.data[58] >> 4) << 8, 1024);
}

TEST_F(VirtioGpuTest, WrongCommandsAreAnsweredWithErrors) {
  EXPECT_EQ(ask(kCreate2d, Create2d{{}, 0, kB8G8R8X8, 4, 2}).type, u32{kErrInvalidResource});
  EXPECT_EQ(ask(kCreate2d, Create2d{{}, 1, 9, 4, 2}).type, u32{kErrInvalidParameter});
  EXPECT_EQ(ask(kCreate2d, Create2d{{}, 1, kB8G8R8X8, 1000, 1000}).type, u32{kErrOutOfMemory});
  ASSERT_EQ(ask(kCreate2d, Create2d{{}, 1, kB8G8R8X8, 4, 2}).type, u32{kOkNoData});
  EXPECT_EQ(ask(kCreate2d, Create2d{{}, 1, kB8G8R8X8, 4, 2}).type, u32{kErrInvalidResource});
  EXPECT_EQ(ask(kTransferToHost2d, Transfer{{}, {0, 0, 4, 2}, 0, 1, 0}).type, u32{kErrUnspec});  // no memory attached
  EXPECT_EQ(ask(kTransferToHost2d, Transfer{{}, {1, 0, ~0u, 2}, 0, 1, 0}).type, u32{kErrInvalidParameter});
  EXPECT_EQ(ask(kSetScanout, SetScanout{{}, {0, 0, 5, 2}, 0, 1}).type, u32{kErrInvalidParameter});
  EXPECT_EQ(ask(kSetScanout, SetScanout{{}, {0, 0, 4, 2}, 1, 1}).type, u32{kErrInvalidScanout});
  EXPECT_EQ(attach(1, {}, 1), u32{kErrInvalidParameter});
  EXPECT_EQ(attach(1, {{~u64{0} - 4, 64, 0}}, 1), u32{kOkNoData});
  EXPECT_EQ(ask(kTransferToHost2d, Transfer{{}, {0, 0, 4, 2}, 0, 1, 0}).type, u32{kErrUnspec});
  EXPECT_EQ(ask(kTransferToHost2d, Transfer{{}, {0, 0, 4, 2}, ~u64{0} - 3, 1, 0}).type, u32{kErrUnspec});
  EXPECT_EQ(ask(0x0999, Create2d{}).type, u32{kErrUnspec});
  EXPECT_EQ(driver_->reset_requests, 0);
}

TEST_F(VirtioGpuTest, FencesComeBack) {
  Create2d command{};
  command.header.flags = kFlagFence;
  command.header.fence_id = 77;
  const Header answer = ask(kCreate2d, command);
  EXPECT_EQ(answer.flags, kFlagFence);
  EXPECT_EQ(answer.fence_id, 77u);
}

TEST_F(VirtioGpuTest, CursorShapeComesFromAResource) {
  ASSERT_EQ(ask(kCreate2d, Create2d{{}, 3, kB8G8R8A8, 64, 64}).type, u32{kOkNoData});
  const u64 before = device_.cursor_serial();
  ask(kUpdateCursor, Cursor{{}, 0, 0, 0, 0, 3, 5, 6, 0}, {}, 1);
  EXPECT_NE(device_.cursor_serial(), before);
  EXPECT_EQ(device_.cursor().width, 64u);
  EXPECT_EQ(device_.cursor().hot_y, 6u);
}

TEST_F(VirtioGpuTest, StateSurvives) {
  show_picture();
  bool quiet = false;
  device_.quiesce([&] { quiet = true; });
  for (int i = 0; i < 100 && !quiet; ++i) loop_->run_once(1'000'000);
  ASSERT_TRUE(quiet);
  Archive out;
  device_.visit_all(out, std::nullopt);
  const std::vector<u8> saved = out.take();
  display::ScreenList screens;
  VirtioGpu other{{.max_bytes = 1 << 20}, *loop_, guest_.space(), screens};
  Archive in{std::span<const u8>(saved)};
  other.visit_all(in, std::nullopt);
  EXPECT_TRUE(in.status());
  device_.resume();
  driver_->settle();
}

}  // namespace
}  // namespace atl::devices
