#include "base/task.h"

#include <gtest/gtest.h>

#include <string>

#include "base/result.h"

namespace atl {
namespace {

/// Suspends its coroutine until go().
struct Gate {
  std::coroutine_handle<> waiter;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> h) noexcept { waiter = h; }
  void await_resume() const noexcept {}
  void go() { std::exchange(waiter, nullptr).resume(); }
};

Task<int> value_after(Gate& gate, int value) {
  co_await gate;
  co_return value;
}

Task<int> sum(Gate& a, Gate& b) {
  int first = co_await value_after(a, 1);
  co_return first + co_await value_after(b, 2);
}

TEST(Task, ResultTravelsUpTheChainOfAwaiters) {
  Gate a, b;
  int got = 0;
  start(sum(a, b), [&](int value) { got = value; });
  a.go();
  EXPECT_EQ(got, 0);
  b.go();
  EXPECT_EQ(got, 3);
}

TEST(Task, DoesNotRunBeforeItIsAwaited) {
  bool ran = false;
  auto body = [](bool& flag) -> Task<int> {
    flag = true;
    co_return 0;
  };
  {
    auto task = body(ran);
  }
  EXPECT_FALSE(ran);
}

Task<Result<int>> fail_with(std::string text) { co_return Error(ErrorKind::Io, std::move(text)); }

Task<Result<int>> pass_on() {
  Result<int> r = co_await fail_with("disk");
  int value = CO_TRY(std::move(r).context("read"));
  co_return value;
}

TEST(Task, CoTryReturnsTheErrorWithItsContext) {
  std::string text;
  start(pass_on(), [&](Result<int> r) { text = r.error().text(); });
  EXPECT_EQ(text, "read: disk");
}

}  // namespace
}  // namespace atl
