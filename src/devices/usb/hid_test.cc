#include "devices/usb/hid.h"

#include <gtest/gtest.h>

#include "base/endian.h"

namespace atl::devices::usb {
namespace {

constexpr u8 kEnter = 0x1c, kCtrl = 0x1d;

class HidTest : public testing::Test {
 protected:
  /// A whole control transfer; the bytes it gave.
  static std::vector<u8> control(UsbDevice& device, std::array<u8, 8> setup) {
    device.setup(setup);
    std::vector<u8> all, part(8);
    if (setup[0] & kDirectionIn) {
      for (;;) {
        const Outcome outcome = device.in(0, part);
        if (outcome.status != Answer::Ok) return {0xde, 0xad};
        all.insert(all.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(outcome.bytes));
        if (outcome.bytes < part.size()) break;
      }
      device.out(0, {});
    } else if (device.in(0, {}).status != Answer::Ok) {
      all = {0xde, 0xad};
    }
    return all;
  }
  static void configure(UsbDevice& device) {
    device.set_speed(Speed::Full);
    control(device, {0, kSetAddress, 5, 0, 0, 0, 0, 0});
    control(device, {0, kSetConfiguration, 1, 0, 0, 0, 0, 0});
  }
  static std::vector<u8> poll(UsbDevice& device) {
    std::vector<u8> bytes(8);
    const Outcome outcome = device.in(1, bytes);
    bytes.resize(outcome.status == Answer::Ok ? outcome.bytes : 0);
    return bytes;
  }

  display::InputRouter router_;
};

TEST_F(HidTest, TabletTellsPlacesButtonsAndWheel) {
  Pointer tablet(Pointer::Mode::Tablet, router_, {});
  configure(tablet);
  EXPECT_TRUE(poll(tablet).empty());
  EXPECT_TRUE(router_.absolute());
  ASSERT_TRUE(router_.point({.x = 0x1234, .y = 0x7fff, .wheel = 0, .buttons = 0}).has_value());
  EXPECT_EQ(poll(tablet), (std::vector<u8>{0, 0x34, 0x12, 0xff, 0x7f, 0}));
  ASSERT_TRUE(router_.point({.x = 0x1234, .y = 0x7fff, .wheel = -1, .buttons = display::kButtonLeft}).has_value());
  EXPECT_EQ(poll(tablet), (std::vector<u8>{1, 0x34, 0x12, 0xff, 0x7f, 1}));
  EXPECT_TRUE(poll(tablet).empty());
  tablet.leaving();
}

TEST_F(HidTest, FastClickIsTwoReportsAndMovementsJoin) {
  Pointer tablet(Pointer::Mode::Tablet, router_, {});
  configure(tablet);
  poll(tablet);
  for (u8 buttons : {u8{0}, u8{0}, u8{1}, u8{0}}) (void)router_.point({.x = 7 + buttons, .y = 2, .wheel = 0, .buttons = buttons});
  EXPECT_EQ(poll(tablet)[0], 0);
  EXPECT_EQ(poll(tablet)[0], 1);
  EXPECT_EQ(poll(tablet)[0], 0);
  EXPECT_TRUE(poll(tablet).empty());
  tablet.leaving();
}

TEST_F(HidTest, MouseTellsLongWaysInSeveralReports) {
  Pointer mouse(Pointer::Mode::Mouse, router_, {});
  configure(mouse);
  poll(mouse);
  ASSERT_TRUE(router_.move({.x = 200, .y = -5, .wheel = 0, .buttons = 0}).has_value());
  EXPECT_EQ(poll(mouse), (std::vector<u8>{0, 127, 0xfb, 0}));
  EXPECT_EQ(poll(mouse), (std::vector<u8>{0, 73, 0, 0}));
  EXPECT_TRUE(poll(mouse).empty());
  mouse.leaving();
}

TEST_F(HidTest, KeyboardReportsKeysModifiersAndLights) {
  Keyboard keyboard(router_, {});
  configure(keyboard);
  poll(keyboard);
  (void)router_.key(kCtrl, true);
  (void)router_.key(kEnter, true);
  (void)router_.key(kEnter, false);
  EXPECT_EQ(poll(keyboard), (std::vector<u8>{1, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(poll(keyboard), (std::vector<u8>{1, 0, 0x28, 0, 0, 0, 0, 0}));
  EXPECT_EQ(poll(keyboard), (std::vector<u8>{1, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_TRUE(poll(keyboard).empty());
  const std::array<u8, 8> set_report = {kTypeClass | kToInterface, kSetReport, 0, 2, 0, 0, 1, 0};
  keyboard.setup(set_report);
  const u8 caps = 2;
  keyboard.out(0, {&caps, 1});
  keyboard.in(0, {});
  EXPECT_EQ(router_.leds(), display::kLedCaps);
  keyboard.leaving();
}

TEST_F(HidTest, DescriptorsFitEachOther) {
  Pointer tablet(Pointer::Mode::Tablet, router_, {});
  configure(tablet);
  const auto device = control(tablet, {kDirectionIn, kGetDescriptor, 0, kDescriptorDevice, 0, 0, 64, 0});
  ASSERT_EQ(device.size(), 18u);
  EXPECT_EQ(device[0], 18);
  const auto configuration = control(tablet, {kDirectionIn, kGetDescriptor, 0, kDescriptorConfiguration, 0, 0, 255, 0});
  ASSERT_EQ(configuration.size(), load_le<u16>(&configuration[2]));
  const u16 report_bytes = load_le<u16>(&configuration[9 + 9 + 7]);
  const auto report = control(tablet, {kDirectionIn | kToInterface, kGetDescriptor, 0, kDescriptorReport, 0, 0, 255, 0});
  EXPECT_EQ(report.size(), report_bytes);
  EXPECT_EQ(control(tablet, {kDirectionIn, 99, 0, 0, 0, 0, 8, 0}), (std::vector<u8>{0xde, 0xad}));
  tablet.leaving();
}

TEST_F(HidTest, SavedStateKeepsWhatWaits) {
  Keyboard keyboard(router_, {}), other(router_, {});
  configure(keyboard);
  poll(keyboard);
  (void)router_.key(kEnter, true);
  Archive out;
  keyboard.visit(out);
  const std::vector<u8> saved = out.take();
  Archive in{std::span<const u8>(saved)};
  other.visit(in);
  ASSERT_TRUE(in.status().has_value());
  EXPECT_EQ(other.address(), 5);
  EXPECT_EQ(poll(other), (std::vector<u8>{0, 0, 0x28, 0, 0, 0, 0, 0}));
  keyboard.leaving();
  other.leaving();
}

}  // namespace
}  // namespace atl::devices::usb
