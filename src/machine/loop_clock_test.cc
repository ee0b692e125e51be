#include "machine/loop_clock.h"

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

}  // namespace
}  // namespace atl::machine
