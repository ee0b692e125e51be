// Threads with names, and a loop that runs on a thread of its own.
#pragma once

#include <pthread.h>

#include <functional>
#include <memory>
#include <optional>
#include <semaphore>
#include <string>
#include <type_traits>
#include <utility>

#include "base/loop.h"
#include "base/result.h"
#include "base/task.h"

namespace atl {

/// Owns one thread; joins it in the destructor. Move-only.
class Thread {
 public:
  Thread() = default;
  /// Starts `body` on a new thread, which /proc, gdb and top show by the first 15 characters of `name`. All signals are
  /// blocked in it: they are the main thread's.
  static Result<Thread> start(std::string name, std::function<void()> body);
  Thread(Thread&& other) noexcept : started_(std::exchange(other.started_, false)), id_(other.id_) {}
  Thread& operator=(Thread&& other) noexcept {
    join();
    started_ = std::exchange(other.started_, false);
    id_ = other.id_;
    return *this;
  }
  ~Thread() { join(); }

  bool joinable() const { return started_; }
  void join();
  /// For pthread_kill and affinity; valid while joinable().
  pthread_t id() const { return id_; }

 private:
  bool started_ = false;
  pthread_t id_{};
};

/// A Loop and the thread that runs it.
class LoopThread {
 public:
  static Result<std::unique_ptr<LoopThread>> start(std::string name);
  /// Stops the loop and joins the thread. What was posted and has not run is dropped.
  ~LoopThread() { stop(); }

  Loop& loop() { return *loop_; }
  /// Ends the thread; the loop stays, so that its users can be destroyed. Not from the loop's thread.
  void stop();
  bool is_running() const { return thread_.joinable(); }
  /// Runs `function` on the loop's thread and gives its result. Waits: for the control thread, holding no lock. Runs it
  /// right here if this is the loop's thread, or if the loop has been stopped.
  template <class F>
  auto run_on(F function) -> std::invoke_result_t<F>;

 private:
  LoopThread() = default;

  std::unique_ptr<Loop> loop_;
  Thread thread_;
};

/// Runs the task that `make` gives on the loop of `thread`, and gives its result. Waits as run_on does. `make` is called on the
/// loop's thread and lives until the task has ended.
template <class F>
auto finish_on(LoopThread& thread, F make) {
  using T = decltype(make().await_resume());
  std::optional<T> result;
  if (!thread.is_running() || thread.loop().on_loop_thread()) {
    start(make(), [&](T value) { result.emplace(std::move(value)); });
    while (!result) thread.loop().run_once(1'000'000'000);
    return std::move(*result);
  }
  std::binary_semaphore done{0};
  thread.loop().post([&] {
    start(make(), [&](T value) {
      result.emplace(std::move(value));
      done.release();
    });
  });
  done.acquire();
  return std::move(*result);
}

template <class F>
auto LoopThread::run_on(F function) -> std::invoke_result_t<F> {
  using R = std::invoke_result_t<F>;
  if (!thread_.joinable() || loop_->on_loop_thread()) return function();
  std::binary_semaphore done{0};
  if constexpr (std::is_void_v<R>) {
    loop_->post([&] {
      function();
      done.release();
    });
    done.acquire();
  } else {
    std::optional<R> result;
    loop_->post([&] {
      result.emplace(function());
      done.release();
    });
    done.acquire();
    return std::move(*result);
  }
}

}  // namespace atl
