#include "machine/loop_clock.h"

#include <limits>
#include <thread>

#include <gtest/gtest.h>

namespace atl::machine {
namespace {

constexpr u64 kDeadline = 10'000'000'000;

class LoopClockTest : public testing::Test {
 protected:
  LoopClockTest() : loop(MUST(Loop::create())) {}  // a loop needs only io_uring
  template <class F>
  bool wait_until(F condition) {
    const u64 end = monotonic_ns() + kDeadline;
    while (!condition() && monotonic_ns() < end) loop->run_once(1'000'000);
    return condition();
  }
  void turn() {
    for (int i = 0; i < 5; ++i) loop->run_once(1'000'000);
  }

  std::unique_ptr<Loop> loop;
  VmClock clock;
  LoopClock device_clock{*loop, clock};
  int fired = 0;
  std::unique_ptr<devices::Alarm> alarm = device_clock.create_alarm([this] { ++fired; });
};

TEST_F(LoopClockTest, AlarmFiresOnceWhenItsTimeHasCome) {
  clock.resume();
  alarm->arm_at(clock.now_ns() + 1'000'000);
  ASSERT_TRUE(wait_until([&] { return fired > 0; }));
  turn();
  EXPECT_EQ(fired, 1);
}

TEST_F(LoopClockTest, CancelledAlarmStaysSilent) {
  clock.resume();
  alarm->arm_at(clock.now_ns() + 1'000'000);
  alarm->cancel();
  turn();
  EXPECT_EQ(fired, 0);
}

TEST_F(LoopClockTest, PausedClockHoldsAlarmsBackUntilItRunsAgain) {
  alarm->arm_at(0);
  turn();
  EXPECT_EQ(fired, 0);
  clock.resume();
  device_clock.resumed();
  EXPECT_TRUE(wait_until([&] { return fired == 1; }));
}

TEST_F(LoopClockTest, LaterDeadlineReplacesTheEarlier) {
  clock.resume();
  alarm->arm_at(clock.now_ns() + 1'000'000);
  alarm->arm_at(clock.now_ns() + 3'600'000'000'000);
  turn();
  EXPECT_EQ(fired, 0);
}

TEST_F(LoopClockTest, DestroyedAlarmIsForgotten) {
  clock.resume();
  alarm->arm_at(0);
  alarm.reset();
  turn();
  EXPECT_EQ(fired, 0);
}

/// The loop runs on a thread of its own, as step() wants it.
class SteppedClockTest : public testing::Test {
 protected:
  SteppedClockTest() : loop(MUST(Loop::create())), thread([this] { loop->run(); }) {}  // a loop needs only io_uring
  ~SteppedClockTest() override {
    loop->stop();
    thread.join();
  }

  std::unique_ptr<Loop> loop;
  VmClock clock;
  LoopClock device_clock{*loop, clock, LoopClock::Pace::Stepped};
  std::thread thread;
};

TEST_F(SteppedClockTest, EveryAlarmOnTheWayHasRungAtItsTime) {
  std::vector<u64> times;
  std::unique_ptr<devices::Alarm> alarm = device_clock.create_alarm([&] {
    times.push_back(device_clock.now_ns());
    alarm->arm_at(device_clock.now_ns() + 300);
  });
  alarm->arm_at(100);
  EXPECT_EQ(device_clock.until_next_alarm(), 100);
  device_clock.step(1000);
  EXPECT_EQ(times, (std::vector<u64>{100, 400, 700, 1000}));
  EXPECT_EQ(device_clock.now_ns(), 1000);
  EXPECT_EQ(device_clock.until_next_alarm(), 300);
  alarm->cancel();
  EXPECT_EQ(device_clock.until_next_alarm(), std::nullopt);
}

TEST_F(SteppedClockTest, TimeEndsAtItsLargestNumber) {
  device_clock.step(~u64{0});
  device_clock.step(~u64{0});
  EXPECT_EQ(device_clock.now_ns(), u64{std::numeric_limits<i64>::max()});
}

}  // namespace
}  // namespace atl::machine
