#include "devices/legacy/rtc.h"

#include <gtest/gtest.h>

#include "devices/legacy/manual_clock.h"
#include "devices/legacy/test_doubles.h"

namespace atl::devices {
namespace {

// 2024-02-29 13:59:58, a Thursday.
constexpr i64 kStart = 1709215198;
constexpr i64 kSecond = 1'000'000'000;

class RtcTest : public testing::Test {
 protected:
  RtcOptions options(bool catch_up = false) {
    return {.time_source_ns = [this] { return static_cast<i64>(clock.now_ns()); },
            .offset_ns = kStart * kSecond,
            .catch_up_ticks = catch_up,
            .on_change = [this](i64 seconds) { change = seconds; }};
  }
  u8 in(u8 index) {
    rtc.bus_write(0, index, 1);
    return static_cast<u8>(rtc.bus_read(1, 1));
  }
  void out(u8 index, u8 value) {
    rtc.bus_write(0, index, 1);
    rtc.bus_write(1, value, 1);
  }

  ManualClock clock;
  RecordingLine irq;
  i64 change = 0;
  Rtc rtc{irq, clock, options()};
};

TEST_F(RtcTest, ShowsDateInBcdWithCentury) {
  EXPECT_EQ(in(0), 0x58);
  EXPECT_EQ(in(2), 0x59);
  EXPECT_EQ(in(4), 0x13);
  EXPECT_EQ(in(6), 5);
  EXPECT_EQ(in(7), 0x29);
  EXPECT_EQ(in(8), 0x02);
  EXPECT_EQ(in(9), 0x24);
  EXPECT_EQ(in(0x32), 0x20);
}

TEST_F(RtcTest, BinaryAndTwelveHourFormatsFollowRegisterB) {
  out(11, 0x04);
  EXPECT_EQ(in(0), 58);
  EXPECT_EQ(in(4), 0x81);  // 1 PM
}

TEST_F(RtcTest, TimeIsSetWhileTheDividerIsHeld) {
  out(10, 0x76);
  out(0, 0x30);
  out(2, 0x15);
  out(4, 0x09);
  clock.advance(kSecond);
  EXPECT_EQ(in(4), 0x09);
  EXPECT_EQ(in(2), 0x15);
  EXPECT_EQ(in(0), 0x30);
  out(10, 0x26);
  clock.advance(kSecond / 2 - 244'140 - 1);
  EXPECT_FALSE(in(10) & 0x80);
  clock.advance(1);
  EXPECT_TRUE(in(10) & 0x80);
  clock.advance(244'140);
  EXPECT_FALSE(in(10) & 0x80);
  EXPECT_EQ(in(0), 0x31);
}

TEST_F(RtcTest, TimeAdvancesOverDayEnd) {
  clock.advance(2 * kSecond);
  EXPECT_EQ(in(0), 0x00);
  EXPECT_EQ(in(4), 0x14);
  clock.advance(10ull * 3600 * kSecond);
  EXPECT_EQ(in(7), 0x01);
  EXPECT_EQ(in(8), 0x03);
}

TEST_F(RtcTest, SettingTheClockReportsTheChange) {
  out(11, 0x82);
  out(4, 0x15);
  EXPECT_EQ(change, 0);
  clock.advance(5 * kSecond);
  EXPECT_EQ(in(0), 0x58);  // stands still while SET
  out(11, 0x02);
  EXPECT_EQ(in(4), 0x15);
  EXPECT_EQ(change, 2 * 3600 - 5);
}

TEST_F(RtcTest, UpdateInterruptComesAtTheFullSecond) {
  out(11, 0x12);
  clock.advance(kSecond / 2);
  EXPECT_FALSE(irq.level);
  clock.advance(kSecond / 2);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(in(12) & 0xb0, 0x90);
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(in(12), 0);
}

TEST_F(RtcTest, AlarmFiresOnMatchWithDontCare) {
  out(1, 0x00);
  out(3, 0xff);
  out(5, 0xff);
  out(11, 0x22);
  clock.advance(kSecond);
  EXPECT_FALSE(irq.level);
  clock.advance(kSecond);
  EXPECT_EQ(in(12) & 0xa0, 0xa0);
  clock.advance(60 * kSecond);
  EXPECT_TRUE(irq.level);
}

TEST_F(RtcTest, PeriodicInterruptFollowsRate) {
  out(10, 0x26);  // 1024 Hz
  out(11, 0x42);
  for (int i = 0; i < 1024; ++i) {
    clock.advance(976562);
    in(12);
  }
  EXPECT_NEAR(irq.rising_edges, 1024, 1);
}

TEST_F(RtcTest, SlowGuestLosesTicksUnlessCatchingUp) {
  Rtc catching{irq, clock, options(true)};
  catching.bus_write(0, 11, 1);
  catching.bus_write(1, 0x42, 1);
  clock.advance(10 * 976563);
  catching.bus_write(0, 12, 1);
  int ticks = 0;
  while (catching.bus_read(1, 1) & 0x40) ++ticks;
  EXPECT_EQ(ticks, 10);
}

TEST_F(RtcTest, UpdateInProgressJustBeforeTheSecond) {
  clock.advance(kSecond - 100'000);
  EXPECT_EQ(in(10) & 0x80, 0x80);
  clock.advance(100'000);
  EXPECT_EQ(in(10) & 0x80, 0);
}

TEST_F(RtcTest, CmosSurvivesReset) {
  rtc.set_cmos(0x5f, 3);
  out(0x40, 0x77);
  rtc.reset();
  EXPECT_EQ(in(0x5f), 3);
  EXPECT_EQ(in(0x40), 0x77);
}

TEST_F(RtcTest, ImpossibleAlarmNeverFires) {
  out(1, 0x99);
  out(11, 0x22);
  clock.advance(200000ull * kSecond);
  EXPECT_FALSE(irq.level);
}

}  // namespace
}  // namespace atl::devices
