// Tasks that run side by side on one loop, so many at a time, and whoever waits for them.
#pragma once

#include "base/result.h"
#include "base/task.h"

namespace atl {

/// Remembers the first error. Must have been waited for (all()) before it goes.
class TaskGroup {
 public:
  /// Resumes when few enough tasks are left.
  class Wait {
   public:
    Wait(TaskGroup& group, unsigned limit) : group_(group), limit_(limit) {}
    bool await_ready() const { return group_.running_ <= limit_; }
    void await_suspend(std::coroutine_handle<> waiter) {
      group_.waiter_ = waiter;
      group_.awaited_ = limit_;
    }
    Status await_resume() const { return group_.result_; }

   private:
    TaskGroup& group_;
    unsigned limit_;
  };

  explicit TaskGroup(unsigned at_once) : at_once_(at_once) {}
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;
  ~TaskGroup() { CHECK(running_ == 0); }

  /// Until another task may be added; gives the first error so far.
  Wait room() { return {*this, at_once_ - 1}; }
  Wait all() { return {*this, 0}; }
  void add(Task<Status> task) {
    ++running_;
    start(std::move(task), [this](Status status) { ended(std::move(status)); });
  }
  bool failed() const { return !result_; }

 private:
  void ended(Status status) {
    if (!status && result_) result_ = std::move(status);
    if (--running_ <= awaited_ && waiter_) std::exchange(waiter_, nullptr).resume();
  }

  const unsigned at_once_;
  unsigned running_ = 0, awaited_ = 0;
  std::coroutine_handle<> waiter_;
  Status result_;
};

}  // namespace atl
