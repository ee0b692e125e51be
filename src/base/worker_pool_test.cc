#include "base/worker_pool.h"

#include <gtest/gtest.h>

#include "base/task_group.h"

namespace atl {
namespace {

Task<Status> square(WorkerPool& pool, Loop& loop, int& value) {
  bool off_loop = false;
  std::function<void()> work = [&] {
    off_loop = !loop.on_loop_thread();
    value *= value;
  };
  co_await pool.run(loop, std::move(work));
  if (!off_loop || !loop.on_loop_thread()) co_return Error(ErrorKind::Invalid, "on the wrong thread");
  co_return Status{};
}

Task<Status> square_all(WorkerPool& pool, Loop& loop, std::vector<int>& values) {
  TaskGroup group(3);
  for (int& value : values) {
    Status so_far = co_await group.room();
    CO_TRY(std::move(so_far));
    group.add(square(pool, loop, value));
  }
  co_return co_await group.all();
}

TEST(WorkerPool, WorkRunsOffTheLoopAndItsTaskGoesOnThere) {
  auto loop = MUST(Loop::create(8));
  auto pool = MUST(WorkerPool::start("squares", 2));
  std::vector<int> values;
  for (int i = 0; i < 200; ++i) values.push_back(i);
  std::optional<Status> done;
  start(square_all(*pool, *loop, values), [&](Status status) { done = std::move(status); });
  while (!done) loop->run_once(1'000'000'000);
  EXPECT_TRUE(*done);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(values[static_cast<size_t>(i)], i * i);
}

TEST(TaskGroup, FirstErrorIsKept) {
  auto fail = [](const char* text) -> Task<Status> { co_return Error(ErrorKind::Io, text); };
  auto all = [&](TaskGroup& group) -> Task<Status> {
    group.add(fail("first"));
    group.add(fail("second"));
    co_return co_await group.all();
  };
  TaskGroup group(2);
  Status result;
  start(all(group), [&](Status status) { result = std::move(status); });
  EXPECT_EQ(result.error().text(), "first");
}

}  // namespace
}  // namespace atl
