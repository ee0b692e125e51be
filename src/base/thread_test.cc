#include "base/thread.h"

#include <gtest/gtest.h>

#include <atomic>

namespace atl {
namespace {

TEST(Thread, CarriesItsNameCutTo15Bytes) {
  char name[16] = {};
  Thread thread =
      MUST(Thread::start("a-very-long-thread-name", [&] { pthread_getname_np(pthread_self(), name, sizeof name); }));
  thread.join();
  EXPECT_STREQ(name, "a-very-long-thr");
}

TEST(Thread, DestructorWaitsForTheEnd) {
  std::atomic<bool> ended = false;
  {
    Thread thread = MUST(Thread::start("t", [&] { ended = true; }));
  }
  EXPECT_TRUE(ended);
}

TEST(LoopThread, RunOnWaitsForTheResultFromTheLoopThread) {
  auto io = MUST(LoopThread::start("io"));
  EXPECT_TRUE(io->run_on([&] { return io->loop().on_loop_thread(); }));
  int touched = 0;
  io->run_on([&] { io->run_on([&] { touched = 1; }); });  // from the loop itself: right there
  EXPECT_EQ(touched, 1);
}

TEST(LoopThread, BelongsToItsOwnThreadAsSoonAsItIsStarted) {
  for (int i = 0; i < 200; ++i) EXPECT_FALSE(MUST(LoopThread::start("io"))->loop().on_loop_thread());
}

TEST(LoopThread, RunOnAfterStopRunsInPlace) {
  auto io = MUST(LoopThread::start("io"));
  io->stop();
  EXPECT_EQ(io->run_on([] { return 5; }), 5);
}

}  // namespace
}  // namespace atl
