#include "cpu/soft/irq/pit.h"

#include <gtest/gtest.h>

#include <thread>

namespace atl::soft {
namespace {

constexpr u64 kMs = 1'000'000;

class PitChannelTest : public ::testing::Test {
 protected:
  void program(u8 mode, u16 count) {
    channel.write_control(static_cast<u8>(0x30 | mode << 1), 0);
    channel.write_count(static_cast<u8>(count), 0);
    channel.write_count(static_cast<u8>(count >> 8), 0);
  }
  u16 read(u64 now) {
    u16 low = channel.read(now);
    return static_cast<u16>(low | channel.read(now) << 8);
  }

  PitChannel channel;
};

TEST_F(PitChannelTest, RateGeneratorRisesEveryPeriod) {
  program(2, 11932);  // 10 ms
  u64 first = channel.next_rising_edge(0);
  EXPECT_NEAR(static_cast<double>(first), 10.0 * kMs, 1000);
  u64 second = channel.next_rising_edge(first);
  EXPECT_NEAR(static_cast<double>(second), 20.0 * kMs, 2000);
}

TEST_F(PitChannelTest, CountZeroMeans65536) {
  program(2, 0);
  EXPECT_NEAR(static_cast<double>(channel.next_rising_edge(0)), 54.925 * kMs, 1000);
}

TEST_F(PitChannelTest, OneShotGoesHighAtTheEndAndStays) {
  program(0, 1193);  // 1 ms
  EXPECT_FALSE(channel.output(kMs / 2));
  u64 edge = channel.next_rising_edge(0);
  EXPECT_TRUE(channel.output(edge));
  EXPECT_EQ(channel.next_rising_edge(edge), TimerQueue::kNever);
  EXPECT_TRUE(channel.output(100 * kMs));
}

TEST_F(PitChannelTest, CounterCountsDown) {
  program(2, 1000);
  EXPECT_EQ(read(0), 1000);
  EXPECT_EQ(read(83'000), 901) << "99 ticks later";
}

TEST_F(PitChannelTest, SquareWaveCountsByTwoAndIsHalfHigh) {
  program(3, 1000);
  EXPECT_TRUE(channel.output(0));
  EXPECT_FALSE(channel.output(500'000));
  EXPECT_EQ(read(83'000), 802);
}

TEST_F(PitChannelTest, LatchHoldsTheValue) {
  program(2, 1000);
  channel.latch_count(0);
  channel.latch_count(kMs / 2);
  EXPECT_EQ(read(kMs / 2), 1000);
  EXPECT_NE(read(kMs / 2), 1000);
}

TEST_F(PitChannelTest, StatusTellsModeAndOutput) {
  program(2, 1000);
  channel.latch_status(0);
  EXPECT_EQ(channel.read(0), 0x80 | 0x30 | 2 << 1);
}

TEST_F(PitChannelTest, BcdCountsInDecimal) {
  channel.write_control(0x31 | 2 << 1, 0);
  channel.write_count(0x00, 0);
  channel.write_count(0x10, 0);  // 1000
  EXPECT_EQ(read(83'000), 0x0901);
}

TEST_F(PitChannelTest, NothingHappensBeforeTheCountIsWritten) {
  channel.write_control(0x34, 0);
  EXPECT_EQ(channel.next_rising_edge(0), TimerQueue::kNever);
}

TEST(PitTest, SpeakerGateStartsChannelTwo) {
  VmClock clock;
  TimerQueue timers(clock);
  Pit pit(clock, timers, [](bool) {});
  pit.bus_write(3, 0xb0, 1);  // channel 2, mode 0, as calibration loops use it
  pit.speaker_port().bus_write(0, 1, 1);
  pit.bus_write(2, 0xa9, 1);
  pit.bus_write(2, 0x04, 1);  // 1193
  EXPECT_EQ(pit.speaker_port().bus_read(0, 1) & 0x21, 0x01u);
  clock.set_ns(2 * kMs);
  EXPECT_EQ(pit.speaker_port().bus_read(0, 1) & 0x21, 0x21u);
}

TEST(PitTest, RefreshBitToggles) {
  VmClock clock;
  TimerQueue timers(clock);
  Pit pit(clock, timers, [](bool) {});
  u64 first = pit.speaker_port().bus_read(0, 1), second = pit.speaker_port().bus_read(0, 1);
  EXPECT_EQ((first ^ second) & 0x10, 0x10u);
}

TEST(PitTest, ChannelZeroFiresThroughTheTimerThread) {
  VmClock clock;
  clock.resume();
  TimerQueue timers(clock);
  ASSERT_TRUE(timers.start());
  std::atomic<int> rises{0};
  Pit pit(clock, timers, [&](bool level) {
    rises += level;
    rises.notify_all();
  });
  int at_start = rises;
  pit.bus_write(3, 0x34, 1);
  pit.bus_write(0, 0xa9, 1);
  pit.bus_write(0, 0x04, 1);  // 1 ms
  while (rises < at_start + 4) rises.wait(rises.load());
  timers.stop();
}

TEST(PitTest, WhoeverLooksAtTheClockFiresWhatIsDue) {
  VmClock clock;
  TimerQueue timers(clock);  // its thread never gets to run
  int rises = 0;
  Pit pit(clock, timers, [&](bool level) { rises += level; });
  pit.bus_write(3, 0x34, 1);
  pit.bus_write(0, 0xa9, 1);
  pit.bus_write(0, 0x04, 1);  // 1 ms
  const int at_start = rises;
  clock.set_ns(100 * kMs);
  timers.catch_up();
  EXPECT_EQ(rises, at_start) << "the clock stands still";
  clock.resume();
  timers.catch_up();
  EXPECT_EQ(rises, at_start + 1);
  EXPECT_TRUE(pit.owes());
}

TEST(PitTest, TicksThatFindTheLastOneWaitingFollowWhenThatIsTaken) {
  VmClock clock;
  clock.resume();
  TimerQueue timers(clock);
  ASSERT_TRUE(timers.start());
  std::atomic<int> rises{0};
  Pit pit(clock, timers, [&](bool level) { rises += level; }, [] { return true; });
  pit.bus_write(3, 0x34, 1);
  pit.bus_write(0, 0xa9, 1);
  pit.bus_write(0, 0x04, 1);  // 1 ms
  while (!pit.owes()) std::this_thread::yield();
  timers.stop();
  const int before = rises;
  pit.tick_taken();
  EXPECT_EQ(rises, before + 1);
  while (pit.owes()) pit.tick_taken();
  const int all = rises;
  pit.tick_taken();
  EXPECT_EQ(rises, all) << "nothing is owed any more";
}

TEST_F(PitChannelTest, PeriodsAreCountedBetweenTwoTimes) {
  program(2, 1193);  // 1 ms
  EXPECT_EQ(channel.periods(0, kMs / 2), 0u);
  EXPECT_EQ(channel.periods(kMs, 5 * kMs + kMs / 2), 4u);
  program(0, 1193);
  EXPECT_EQ(channel.periods(0, 5 * kMs), 0u) << "one shot";
}

}  // namespace
}  // namespace atl::soft
