#include "cpu/soft/tsc_clock.h"

#include <gtest/gtest.h>
#include <x86intrin.h>

#include <array>
#include <atomic>
#include <thread>

namespace atl::soft {
namespace {

/// Reads until real time has gone on by `ns`.
template <class F>
void for_ns(u64 ns, F read) {
  for (const u64 end = monotonic_ns() + ns; monotonic_ns() < end;) read();
}

TEST(TscClockTest, FollowsTheClockAndNeverGoesBack) {
  VmClock clock;
  clock.resume();
  TscClock tsc(clock);
  TscSegment segment;
  u64 last = 0;
  for_ns(50'000'000, [&] {
    const u64 before = clock.now_ns(), now = tsc.now_ns(segment), after = clock.now_ns();
    EXPECT_GE(now, last);
    EXPECT_GT(now + 100'000, before);
    EXPECT_LT(now, after + 300'000);
    last = now;
  });
}

TEST(TscClockTest, TimeShownToOneThreadIsNotAheadOfAnothersNextReading) {
  VmClock clock;
  clock.resume();
  TscClock tsc(clock);
  std::atomic<u64> latest{0};
  std::array<std::thread, 2> threads;
  for (std::thread& thread : threads) {
    thread = std::thread([&] {
      TscSegment segment;
      for_ns(50'000'000, [&] {
        const u64 seen = latest.load();
        _mm_lfence();  // the TSC may be read before what stands in front of it
        const u64 now = tsc.now_ns(segment);
        EXPECT_GE(now, seen);
        for (u64 old = seen; old < now && !latest.compare_exchange_weak(old, now);) {
        }
      });
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(TscClockTest, StandsStillWithTheClockAndGoesOnFromThere) {
  VmClock clock;
  clock.resume();
  TscClock tsc(clock);
  TscSegment segment;
  u64 last = 0;
  for_ns(5'000'000, [&] { last = tsc.now_ns(segment); });
  tsc.stop();
  clock.pause();
  const u64 paused = tsc.now_ns(segment);
  for_ns(2'000'000, [&] { EXPECT_EQ(tsc.now_ns(segment), paused); });
  clock.resume();
  const u64 after = tsc.now_ns(segment);
  EXPECT_GE(after, last);
  EXPECT_LT(after, clock.now_ns() + 300'000);
}

TEST(TscClockTest, ClockThatIsSetBackIsFollowed) {
  VmClock clock;
  clock.set_ns(1'000'000'000);
  clock.resume();
  TscClock tsc(clock);
  TscSegment segment;
  for_ns(5'000'000, [&] { tsc.now_ns(segment); });
  tsc.stop();
  clock.pause();
  clock.set_ns(1000);
  clock.resume();
  for_ns(3'000'000, [&] { tsc.now_ns(segment); });
  EXPECT_LT(tsc.now_ns(segment), clock.now_ns() + 300'000);
}

}  // namespace
}  // namespace atl::soft
