#include "block/throttle.h"

#include <gtest/gtest.h>

namespace atl::block {
namespace {

constexpr u64 kSecond = 1'000'000'000;

ThrottleLimits limits(ThrottleLimits::Index index, RateBucket bucket) {
  ThrottleLimits limits;
  limits.buckets[index] = bucket;
  return limits;
}

TEST(Throttle, LongRunKeepsTheAverage) {
  ThrottleGroup group("g", limits(ThrottleLimits::BytesTotal, {.average = 1'000'000}));
  u64 now = kSecond, passed = 0;
  while (now < 11 * kSecond) {
    u64 wait = group.reserve(passed % 2, 50'000, now);
    now += wait;
    passed += 50'000;
  }
  EXPECT_NEAR(static_cast<double>(passed), 10'000'000, 300'000);
}

TEST(Throttle, BurstGoesFasterForItsLength) {
  ThrottleGroup group("g", limits(ThrottleLimits::IopsTotal, {.average = 100, .max = 1000, .burst_seconds = 2}));
  u64 now = kSecond, requests = 0;
  while (now < 2 * kSecond) {
    now += group.reserve(false, 512, now);
    ++requests;
  }
  EXPECT_GT(requests, 800u);
  while (now < 30 * kSecond) {
    now += group.reserve(false, 512, now);
    ++requests;
  }
  EXPECT_LT(requests, 2000u + 100 * 30 + 200);
}

TEST(Throttle, ReadsDoNotPayForWrites) {
  ThrottleGroup group("g", limits(ThrottleLimits::BytesWrite, {.average = 1000}));
  group.reserve(true, 1'000'000, kSecond);
  EXPECT_EQ(group.reserve(false, 1'000'000, kSecond), 0u);
  EXPECT_GT(group.reserve(true, 1, kSecond), kSecond);
}

TEST(Throttle, ContradictionsAreRefused) {
  ThrottleLimits both = limits(ThrottleLimits::IopsTotal, {.average = 1});
  both.buckets[ThrottleLimits::IopsRead].average = 1;
  EXPECT_FALSE(both.check());
  EXPECT_FALSE(limits(ThrottleLimits::IopsTotal, {.max = 5}).check());
  EXPECT_FALSE(limits(ThrottleLimits::IopsTotal, {.average = 10, .max = 5}).check());
  EXPECT_TRUE(limits(ThrottleLimits::IopsTotal, {.average = 10, .max = 20}).check());
}

}  // namespace
}  // namespace atl::block
