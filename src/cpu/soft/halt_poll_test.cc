#include "cpu/soft/halt_poll.h"

#include <gtest/gtest.h>

namespace atl::soft {
namespace {

TEST(HaltPoll, GrowsUntilItCoversTheHalts) {
  HaltPoll poll(false);
  EXPECT_EQ(poll.limit_ns(), 0u);
  for (int i = 0; i < 10; ++i) poll.halted(35'000);
  EXPECT_EQ(poll.limit_ns(), 40'000u);
}

TEST(HaltPoll, NeverLooksForLongerThanItsMost) {
  HaltPoll poll(false);
  for (u64 ns = 1000; ns <= HaltPoll::kMostNs; ns += 1000) poll.halted(ns);
  EXPECT_EQ(poll.limit_ns(), HaltPoll::kMostNs);
}

TEST(HaltPoll, EndsWithAHaltThatNoLookingCovers) {
  HaltPoll poll(false);
  poll.halted(5000);
  EXPECT_EQ(poll.limit_ns(), HaltPoll::kFirstNs);
  poll.halted(4'000'000);
  EXPECT_EQ(poll.limit_ns(), 0u);
}

TEST(HaltPoll, LooksForNothingWithOneProcessor) {
  HaltPoll poll(true);
  poll.halted(5000);
  EXPECT_EQ(poll.limit_ns(), 0u);
}

}  // namespace
}  // namespace atl::soft
