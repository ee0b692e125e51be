#include "devices/display/ramfb.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

constexpr u32 kXr24 = 0x34325258, kRg16 = 0x36314752;

struct RamFbTest : testing::Test {
  TestGuest guest;
  display::ScreenList screens;
  RamFb screen{guest.space(), screens, "fb"};
  FwCfg::LiveFile file = screen.file();
  display::Surface surface;

  std::vector<u8> description(u64 base, u32 format, u32 width, u32 height, u32 stride) {
    std::vector<u8> bytes(RamFb::kFileBytes);
    store_be(&bytes[0], base);
    store_be(&bytes[8], format);
    store_be(&bytes[16], width);
    store_be(&bytes[20], height);
    store_be(&bytes[24], stride);
    return bytes;
  }
  void draw() { screen.draw(surface); }
};

TEST_F(RamFbTest, NothingIsShownUntilFirmwareHasSetItUp) {
  EXPECT_EQ(screens.find("fb"), &screen);
  draw();
  EXPECT_EQ(surface, display::Surface(640, 480));
}

TEST_F(RamFbTest, RowsOfGuestMemoryAreShown) {
  const GuestAddr base = guest.allocate(16 * 128);
  store_le<u32>(guest.at(base + 128 + 4), 0xff123456);
  file.written(description(base, kXr24, 16, 16, 128));
  draw();
  EXPECT_EQ(surface.width(), 16u);
  EXPECT_EQ(surface.row(1)[1], 0x123456u);
}

TEST_F(RamFbTest, SixteenBitsAreWidened) {
  const GuestAddr base = guest.allocate(16 * 32);
  store_le<u16>(guest.at(base), 0xf81f);
  store_le<u16>(guest.at(base + 32), 0x07e0);
  file.written(description(base, kRg16, 16, 16, 0));
  draw();
  EXPECT_EQ(surface.row(0)[0], 0xff00ffu);
  EXPECT_EQ(surface.row(1)[0], 0x00ff00u);
}

TEST_F(RamFbTest, AbsurdPicturesAreLeftAlone) {
  const auto good = description(guest.allocate(1024), kXr24, 16, 16, 0);
  file.written(good);
  for (const auto& bad : {description(0, 0x20203859, 64, 64, 0), description(0, kXr24, 15, 64, 0), description(0, kXr24, 64, 12001, 0),
                          description(0, kXr24, 64, 64, 255), description(0, kXr24, 0xffffffff, 0xffffffff, 0xffffffff)}) {
    file.written(bad);
    EXPECT_EQ(file.read(), good);
  }
  screen.reset();
  EXPECT_EQ(file.read(), std::vector<u8>(RamFb::kFileBytes));
}

TEST_F(RamFbTest, PictureOutsideMemoryIsBlack) {
  file.written(description(~u64{0} - 64, kXr24, 64, 64, 0));
  draw();
  EXPECT_EQ(surface, display::Surface(64, 64));
}

TEST_F(RamFbTest, PictureComesBackFromSavedState) {
  const auto good = description(guest.allocate(1024), kXr24, 16, 16, 0);
  file.written(good);
  Archive saved;
  screen.visit(saved);
  const std::vector<u8> bytes = saved.take();
  screen.reset();
  Archive loaded{bytes};
  screen.visit(loaded);
  ASSERT_TRUE(loaded.status());
  EXPECT_EQ(file.read(), good);
}

}  // namespace
}  // namespace atl::devices
