#include "control/announcements.h"

#include <gmock/gmock.h>

#include "base/clock.h"

namespace atl::control {
namespace {

class AnnouncementsTest : public testing::Test {
 protected:
  static std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }  // io_uring works where the tests run

  std::unique_ptr<Loop> loop = make_loop();
  std::vector<std::vector<std::string>> calls;
  Announcements announcements{*loop, [this](const std::vector<std::string>& cards) { calls.push_back(cards); }};
};

TEST_F(AnnouncementsTest, TheFirstComesAtOnceAndTheOthersLater) {
  ASSERT_TRUE(announcements.start("", {.initial_ms = 1, .max_ms = 2, .rounds = 3, .step_ms = 1, .cards = {"n"}}));
  EXPECT_EQ(calls.size(), 1u);
  for (int i = 0; i < 200 && calls.size() < 3; ++i) loop->run_once(20'000'000);
  EXPECT_EQ(calls, (std::vector<std::vector<std::string>>(3, {"n"})));
}

TEST_F(AnnouncementsTest, ANewOneOfTheSameNameEndsTheOther) {
  ASSERT_TRUE(announcements.start("x", {.initial_ms = 100'000, .max_ms = 100'000, .cards = {"a"}}));
  ASSERT_TRUE(announcements.start("x", {.initial_ms = 1, .max_ms = 1, .rounds = 2, .cards = {"b"}}));
  for (int i = 0; i < 200 && calls.size() < 3; ++i) loop->run_once(20'000'000);
  EXPECT_EQ(calls, (std::vector<std::vector<std::string>>{{"a"}, {"b"}, {"b"}}));
}

TEST_F(AnnouncementsTest, NumbersAreBounded) {
  EXPECT_EQ(announcements.start("", {.rounds = 0}).error().text(), "Parameter 'rounds' expects a value in the range of 1 to 1000");
  EXPECT_EQ(announcements.start("", {.step_ms = 10'001}).error().text(), "Parameter 'step' expects a value in the range of 0 to 10000");
  EXPECT_TRUE(calls.empty());
}

}  // namespace
}  // namespace atl::control
