#include "base/loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <thread>

#include "base/task.h"

namespace atl {
namespace {

constexpr u64 kSecond = 1'000'000'000;

std::unique_ptr<Loop> small_loop() { return MUST(Loop::create(8)); }  // the host has io_uring, or nothing works here

struct LoopTest : testing::Test {
  std::unique_ptr<Loop> loop = small_loop();

  /// Turns until `done`, or for 10 seconds.
  template <class F>
  bool turn_until(F done) {
    for (u64 end = monotonic_ns() + 10 * kSecond; !done() && monotonic_ns() < end;) loop->run_once(kSecond / 10);
    return done();
  }
  void turn_while_ready() {
    for (int i = 0; i < 20; ++i) loop->run_once(0);
  }
};

struct Pipe {
  Pipe() {
    int fds[2];
    CHECK(::pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    out = Fd(fds[0]);
    in = Fd(fds[1]);
  }
  void put(char c) { CHECK(::write(in.get(), &c, 1) == 1); }
  Fd out, in;
};

TEST_F(LoopTest, WatchIsLevelTriggered) {
  Pipe pipe;
  int calls = 0;
  Loop::Watch watch(*loop, pipe.out.get(), POLLIN, [&](u32 ready) { calls += (ready & POLLIN) != 0; });
  turn_while_ready();
  EXPECT_EQ(calls, 0);
  pipe.put('a');
  EXPECT_TRUE(turn_until([&] { return calls >= 3; }));  // nobody reads
}

TEST_F(LoopTest, PausedWatchStaysSilentAndGoesOnAfterwards) {
  Pipe pipe;
  int calls = 0;
  Loop::Watch watch(*loop, pipe.out.get(), POLLIN, [&](u32) { ++calls; });
  watch.set_events(0);
  pipe.put('a');
  turn_while_ready();
  EXPECT_EQ(calls, 0);
  watch.set_events(POLLIN);
  EXPECT_TRUE(turn_until([&] { return calls > 0; }));
}

TEST_F(LoopTest, WatchTellsHangUp) {
  Pipe pipe;
  u32 told = 0;
  Loop::Watch watch(*loop, pipe.out.get(), POLLIN, [&](u32 ready) { told |= ready; });
  loop->run_once(0);
  pipe.in.reset();
  EXPECT_TRUE(turn_until([&] { return told & POLLHUP; }));
}

TEST_F(LoopTest, WatchMayDestroyItselfAndItsNeighbourInTheCallback) {
  Pipe pipe;
  std::unique_ptr<Loop::Watch> a, b;
  int calls = 0;
  auto end_both = [&](u32) {
    ++calls;
    a.reset();
    b.reset();
  };
  a = std::make_unique<Loop::Watch>(*loop, pipe.out.get(), POLLIN, end_both);
  b = std::make_unique<Loop::Watch>(*loop, pipe.out.get(), POLLIN, end_both);
  pipe.put('a');
  EXPECT_TRUE(turn_until([&] { return calls > 0; }));
  turn_while_ready();
  EXPECT_EQ(calls, 1);
}

TEST_F(LoopTest, WatchOfAClosedDescriptorIsToldOnce) {
  int calls = 0;
  Loop::Watch watch(*loop, 1000, POLLIN, [&](u32 ready) { calls += ready == POLLNVAL; });
  turn_while_ready();
  EXPECT_EQ(calls, 1);
}

TEST_F(LoopTest, MoreWatchesThanSubmissionEntriesWork) {
  std::vector<Pipe> pipes(40);
  std::vector<std::unique_ptr<Loop::Watch>> watches;
  int calls = 0;
  for (auto& pipe : pipes) {
    watches.push_back(std::make_unique<Loop::Watch>(*loop, pipe.out.get(), POLLIN, [&, at = watches.size()](u32) {
      ++calls;
      watches[at].reset();
    }));
    pipe.put('a');
  }
  EXPECT_TRUE(turn_until([&] { return calls == 40; }));
}

TEST_F(LoopTest, TimersFireInOrderOfDeadline) {
  std::string order;
  Loop::Timer late(*loop, [&] { order += "late"; });
  Loop::Timer soon(*loop, [&] { order += "soon,"; });
  late.arm_in(2'000'000);
  soon.arm_in(1'000'000);
  EXPECT_TRUE(turn_until([&] { return !late.armed(); }));
  EXPECT_EQ(order, "soon,late");
}

TEST_F(LoopTest, CancelledTimerStaysSilent) {
  int calls = 0;
  Loop::Timer timer(*loop, [&] { ++calls; });
  timer.arm_at(0);
  timer.cancel();
  turn_while_ready();
  EXPECT_EQ(calls, 0);
}

TEST_F(LoopTest, TimerThatRearmsInThePastDoesNotStarveTheLoop) {
  int calls = 0;
  Loop::Timer timer(*loop, [&] {
    ++calls;
    timer.arm_at(0);
  });
  timer.arm_at(0);
  loop->run_once(0);
  EXPECT_EQ(calls, 1);
}

TEST_F(LoopTest, DeferredWorkRunsOnceATurn) {
  int calls = 0;
  Loop::Deferred deferred(*loop, [&] { ++calls; });
  deferred.schedule();
  deferred.schedule();
  loop->run_once(kSecond);
  EXPECT_EQ(calls, 1);
  turn_while_ready();
  EXPECT_EQ(calls, 1);
}

TEST_F(LoopTest, PostedFunctionsRunInOrderOnTheLoopThread) {
  std::vector<int> seen;
  std::thread runner([&] { loop->run(); });
  for (int i = 0; i < 1000; ++i)
    loop->post([&, i] {
      EXPECT_TRUE(loop->on_loop_thread());
      seen.push_back(i);
    });
  loop->post([&] { loop->stop(); });
  runner.join();
  ASSERT_EQ(seen.size(), 1000u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST_F(LoopTest, StopBeforeRunEndsTheRunAtOnce) {
  loop->stop();
  loop->run();
}

struct FileTest : LoopTest {
  Fd file{::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
};

Task<Status> write_and_read_back(Loop& loop, int fd, std::string& back) {
  char text[] = "hello";
  iovec out{text, 5};
  i32 written = co_await loop.writev(fd, {&out, 1}, 4096);
  CHECK(written == 5);
  CHECK(co_await loop.fsync(fd, true) == 0);
  back.resize(9);
  iovec in[2] = {{back.data(), 2}, {back.data() + 2, 7}};
  i32 got = co_await loop.readv(fd, in, 4096);
  back.resize(static_cast<size_t>(got));
  co_return Status{};
}

TEST_F(FileTest, ReadGivesBackWhatWriteWrote) {
  std::string back;
  bool done = false;
  start(write_and_read_back(*loop, file.get(), back), [&](Status) { done = true; });
  EXPECT_TRUE(turn_until([&] { return done; }));
  EXPECT_EQ(back, "hello");
}

Task<i32> read_once(Loop& loop, int fd, iovec into) { co_return co_await loop.readv(fd, {&into, 1}, 0); }

TEST_F(FileTest, MoreRequestsThanEntriesAllComplete) {
  char bytes[500];
  CHECK(::ftruncate(file.get(), 4096) == 0);
  int done = 0;
  for (char& byte : bytes)
    start(read_once(*loop, file.get(), {&byte, 1}), [&](i32 n) {
      EXPECT_EQ(n, 1);
      ++done;
    });
  EXPECT_TRUE(turn_until([&] { return done == 500; }));
}

TEST_F(FileTest, ErrorsComeAsNegativeErrno) {
  i32 result = 0;
  char byte;
  start(read_once(*loop, -1, {&byte, 1}), [&](i32 n) { result = n; });
  EXPECT_TRUE(turn_until([&] { return result != 0; }));
  EXPECT_EQ(result, -EBADF);
}

Task<i32> sleep_for(Loop& loop, u64 ns) { co_return co_await loop.sleep(ns); }

TEST_F(LoopTest, SleepEndsAfterItsTime) {
  i32 result = 0;
  u64 before = monotonic_ns();
  start(sleep_for(*loop, 5'000'000), [&](i32 r) { result = r; });
  EXPECT_TRUE(turn_until([&] { return result != 0; }));
  EXPECT_EQ(result, -ETIME);
  EXPECT_GE(monotonic_ns() - before, 5'000'000u);
}

TEST_F(LoopTest, DestructionCancelsRequestsInFlightAndThoseNotYetSubmitted) {
  int cancelled = 0;
  start(sleep_for(*loop, 3600 * kSecond), [&](i32 r) { cancelled += r == -ECANCELED; });
  loop->run_once(0);
  start(sleep_for(*loop, 3600 * kSecond), [&](i32 r) { cancelled += r == -ECANCELED; });
  loop.reset();
  EXPECT_EQ(cancelled, 2);
}

TEST_F(LoopTest, RequestOfAReadThatNeverComesIsCancelledByDestruction) {
  int sockets[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  Fd a(sockets[0]), b(sockets[1]);
  char byte;
  i32 result = 0;
  start(read_once(*loop, a.get(), {&byte, 1}), [&](i32 r) { result = r; });
  loop->run_once(0);
  loop.reset();
  EXPECT_LT(result, 0);
}

}  // namespace
}  // namespace atl
