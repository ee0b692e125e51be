// A readers-writer lock for coroutines of one loop: waiting suspends the coroutine, never the thread. Fair: in order.
#pragma once

#include <coroutine>
#include <deque>

#include "base/check.h"

namespace atl::block {

class AsyncLock {
 public:
  class Acquire {
   public:
    Acquire(AsyncLock& lock, bool exclusive) : lock_(lock), exclusive_(exclusive) {}
    bool await_ready() const { return lock_.waiting_.empty() && lock_.try_take(exclusive_); }
    void await_suspend(std::coroutine_handle<> waiter) { lock_.waiting_.push_back({waiter, exclusive_}); }
    void await_resume() const {}

   private:
    AsyncLock& lock_;
    bool exclusive_;
  };

  AsyncLock() = default;
  AsyncLock(const AsyncLock&) = delete;
  AsyncLock& operator=(const AsyncLock&) = delete;
  ~AsyncLock() { CHECK(waiting_.empty() && holders_ == 0); }

  Acquire shared() { return {*this, false}; }
  Acquire exclusive() { return {*this, true}; }
  void release() {
    holders_ = holders_ == kExclusive ? 0 : holders_ - 1;
    wake();
  }

 private:
  struct Waiter {
    std::coroutine_handle<> handle;
    bool exclusive;
  };
  static constexpr int kExclusive = -1;

  bool try_take(bool exclusive) {
    if (exclusive ? holders_ != 0 : holders_ < 0) return false;
    holders_ = exclusive ? kExclusive : holders_ + 1;
    return true;
  }
  void wake() {
    while (!waiting_.empty() && try_take(waiting_.front().exclusive)) {
      auto next = waiting_.front().handle;
      waiting_.pop_front();
      next.resume();
    }
  }

  int holders_ = 0;  // readers, or kExclusive
  std::deque<Waiter> waiting_;
};

}  // namespace atl::block
