// Threads that do a loop's long computations (compression, ciphers): the coroutine waits, the loop goes on.
#pragma once

#include <condition_variable>
#include <coroutine>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/loop.h"
#include "base/sync.h"
#include "base/thread.h"

namespace atl {

class WorkerPool {
 public:
  /// `threads` of 0: as many as the host has processors, at most 8.
  static Result<std::unique_ptr<WorkerPool>> start(std::string name, unsigned threads = 0);
  /// Nothing may be under way.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// `co_await pool.run(loop, function)`: `function` on one of the threads; then back on the loop's.
  class Run {
   public:
    Run(WorkerPool& pool, Loop& loop, std::function<void()> function)
        : pool_(pool), loop_(loop), function_(std::move(function)) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter);
    void await_resume() const noexcept {}

   private:
    friend class WorkerPool;
    WorkerPool& pool_;
    Loop& loop_;
    std::function<void()> function_;
    std::coroutine_handle<> waiter_;
  };
  Run run(Loop& loop, std::function<void()> function) { return {*this, loop, std::move(function)}; }
  unsigned threads() const { return static_cast<unsigned>(threads_.size()); }

 private:
  WorkerPool() = default;
  void serve();

  Mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<Run*> queue_ GUARDED_BY(mutex_);
  bool ending_ GUARDED_BY(mutex_) = false;
  std::vector<Thread> threads_;
};

}  // namespace atl
