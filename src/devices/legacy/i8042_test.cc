#include "devices/legacy/i8042.h"

#include <gtest/gtest.h>

#include "devices/legacy/test_doubles.h"

namespace atl::devices {
namespace {

class I8042Test : public testing::Test {
 protected:
  u8 data() { return static_cast<u8>(controller.bus_read(0, 1)); }
  u8 status() { return static_cast<u8>(controller.command_port().bus_read(0, 1)); }
  void data(u8 value) { controller.bus_write(0, value, 1); }
  void command(u8 value) { controller.command_port().bus_write(0, value, 1); }

  RecordingLine keyboard, mouse;
  RecordingSystem system;
  I8042 controller{keyboard, mouse, system};
};

TEST_F(I8042Test, SelfTestPassesAndSetsSystemFlag) {
  EXPECT_EQ(status() & 0x05, 0);
  command(0xaa);
  EXPECT_EQ(status() & 0x05, 0x05);
  EXPECT_EQ(data(), 0x55);
  EXPECT_EQ(status() & 0x01, 0);
}

TEST_F(I8042Test, PulseOfLineZeroResetsTheMachine) {
  command(0xff);
  EXPECT_EQ(system.resets, 0);
  command(0xfe);
  EXPECT_EQ(system.resets, 1);
}

TEST_F(I8042Test, OutputPortHoldsA20AndResetsWhenBitZeroFalls) {
  command(0xd1);
  data(0xdd);
  command(0xd0);
  EXPECT_EQ(data() & 3, 1);
  command(0xd1);
  data(0xde);
  EXPECT_EQ(system.resets, 1);
}

TEST_F(I8042Test, KeyboardAnswersItsReset) {
  data(0xff);
  EXPECT_EQ(data(), 0xfa);
  EXPECT_TRUE(keyboard.level);
  EXPECT_EQ(data(), 0xaa);
  EXPECT_EQ(status() & 1, 0);
}

TEST_F(I8042Test, KeysArriveTranslatedToScanCodeSetOne) {
  controller.key(0x1e, true);
  EXPECT_EQ(data(), 0x1e);
  controller.key(0x1e, false);
  EXPECT_EQ(data(), 0x9e);
  controller.key(0xcb, true);  // left
  EXPECT_EQ(data(), 0xe0);
  EXPECT_EQ(data(), 0x4b);
  controller.key(0xcb, false);
  EXPECT_EQ(data(), 0xe0);
  EXPECT_EQ(data(), 0xcb);
  EXPECT_EQ(status() & 1, 0);
}

TEST_F(I8042Test, WithoutTranslationKeysAreOfSetTwo) {
  command(0x60);
  data(0x01);
  controller.key(0x1e, true);
  controller.key(0x1e, false);
  for (int byte : {0x1c, 0xf0, 0x1c}) EXPECT_EQ(data(), byte);
}

TEST_F(I8042Test, DisabledKeyboardHoldsItsKeysBack) {
  command(0xad);
  controller.key(0x1e, true);
  EXPECT_EQ(status() & 1, 0);
  command(0xae);
  EXPECT_EQ(data(), 0x1e);
}

TEST_F(I8042Test, FloodOfKeysIsBounded) {
  for (int i = 0; i < 10000; ++i) controller.key(0x1e, i % 2 == 0);
  int bytes = 0;
  for (; status() & 1; ++bytes) data();
  EXPECT_LE(bytes, 256);
}

TEST_F(I8042Test, MouseTurnsItsWheelOnByKnocks) {
  auto to_mouse = [&](u8 byte) {
    command(0xd4);
    data(byte);
    return data();
  };
  for (u8 byte : {0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2}) EXPECT_EQ(to_mouse(byte), 0xfa);
  EXPECT_EQ(data(), 3);
  EXPECT_EQ(to_mouse(0xf4), 0xfa);
  controller.move(5, -3, 1, 1);
  EXPECT_TRUE(mouse.level);
  for (int byte : {0x09, 5, 3, 1}) EXPECT_EQ(data(), byte);
}

TEST_F(I8042Test, MouseBytesRaiseInterruptTwelve) {
  command(0xd3);
  data(0x5a);
  EXPECT_TRUE(mouse.level);
  EXPECT_FALSE(keyboard.level);
  EXPECT_EQ(status() & 0x21, 0x21);
  EXPECT_EQ(data(), 0x5a);
  EXPECT_FALSE(mouse.level);
}

TEST_F(I8042Test, CommandByteMasksInterrupts) {
  command(0x60);
  data(0x00);
  command(0xd2);
  data(1);
  EXPECT_FALSE(keyboard.level);
  command(0x20);
  EXPECT_EQ(data(), 1);
  EXPECT_EQ(data(), 0);
}

TEST_F(I8042Test, FloodOfCommandsIsBounded) {
  for (int i = 0; i < 1000; ++i) command(0xaa);
  int bytes = 0;
  while (status() & 1) {
    data();
    ++bytes;
  }
  EXPECT_LE(bytes, 16);
}

}  // namespace
}  // namespace atl::devices
