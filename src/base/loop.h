// An event loop over io_uring: descriptors to watch, timers, posted functions, and file I/O as awaitables.
//
// A loop belongs to the one thread that calls run(). post() and stop() may be called from any thread; everything else
// only on the loop's thread, or while no thread is inside run(). Callbacks never nest: nothing here waits.
//
// One turn is one io_uring_enter (the only system call of a running loop, besides clearing its eventfd): it submits all
// that the last turn queued, waits, and then serves completions, timers and deferred work, in this order.
#pragma once

#include <pthread.h>
#include <sys/uio.h>

#include <atomic>
#include <coroutine>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include <liburing.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/types.h"

namespace atl {

class Loop {
 public:
  class Watch;
  class Timer;
  class Deferred;
  class Request;

  /// `entries` is the number of submissions that are batched into one system call.
  static Result<std::unique_ptr<Loop>> create(unsigned entries = 256);
  /// Watches, timers and deferred work of this loop must be gone. Requests in flight are cancelled and their coroutines
  /// resumed with -ECANCELED before this returns; posted functions that did not run are dropped.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Serves events until stop() is called.
  void run();
  /// Serves what is ready, waiting at most `timeout_ns` for a first event. For tests and start-up.
  void run_once(u64 timeout_ns);
  /// Makes run() return. Any thread.
  void stop();
  /// Runs `function` on the loop's thread, in the order of posting. Any thread.
  void post(std::function<void()> function);
  /// Whether the caller is the thread that is inside run() (or that created the loop, before run()).
  bool on_loop_thread() const;

  // Awaitables: `i32 n = co_await loop.readv(fd, iov, offset)` gives the bytes done or a negative errno.
  Request readv(int fd, std::span<const iovec> iov, u64 offset);
  Request writev(int fd, std::span<const iovec> iov, u64 offset);
  Request fsync(int fd, bool data_only);
  Request fallocate(int fd, int mode, u64 offset, u64 length);
  /// Completes (with -ETIME) after `ns` nanoseconds.
  Request sleep(u64 ns);

 private:
  friend class Watch;
  friend class Timer;
  friend class Deferred;
  friend class Request;
  /// What the user_data of a submission points to; 0 there means that nobody wants to know.
  struct Completion {
    virtual void complete(i32 result) = 0;

   protected:
    ~Completion() = default;
  };
  struct PollState;

  Loop() = default;
  Status set_up(unsigned entries);
  io_uring_sqe* next_sqe();
  void turn(u64 timeout_ns);
  void submit_and_wait(u64 timeout_ns);
  void dispatch_completions();
  void run_posted();
  void run_timers();
  void run_deferred();
  u64 next_timeout_ns(u64 limit_ns) const;
  void arm_poll(PollState* state);
  void remove_poll(PollState* state);
  void forget_poll(PollState* state);

  io_uring ring_{};
  bool ring_ready_ = false;
  bool closing_ = false;     // inside the destructor: new requests fail at once
  u64 in_flight_ = 0;        // requests that the kernel holds or will be given
  Fd wake_;                  // eventfd: posted work or stop
  std::unique_ptr<Watch> wake_watch_;
  bool stopping_ = false;    // loop thread
  std::atomic<pthread_t> thread_{};
  std::multimap<u64, Timer*> timers_;               // by deadline, CLOCK_MONOTONIC ns
  std::vector<Deferred*> deferred_;
  std::vector<std::unique_ptr<PollState>> polls_;   // those of living watches, and those the kernel still holds
  Mutex mutex_;
  std::vector<std::function<void()>> posted_ GUARDED_BY(mutex_);
  bool stop_requested_ GUARDED_BY(mutex_) = false;
};

/// One operation of the kernel, to be awaited once, where it was made. Gives its result: bytes, or a negative errno.
class Loop::Request final : Loop::Completion {
 public:
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  ~Request();

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> waiter);
  i32 await_resume() const noexcept { return result_; }

 private:
  friend class Loop;
  /// `prepare` fills the submission in.
  template <class F>
  Request(Loop& loop, F prepare) : loop_(loop) {
    prepare(sqe_, time_);
  }
  void complete(i32 result) override;

  Loop& loop_;
  io_uring_sqe sqe_{};
  __kernel_timespec time_{};
  std::coroutine_handle<> waiter_;
  i32 result_ = 0;
  bool in_flight_ = false;
};

/// Calls back when a descriptor is ready, until destroyed. Level-triggered.
class Loop::Watch {
 public:
  /// `events` and the callback's argument are poll(2) masks (POLLIN, POLLOUT ...); POLLERR and POLLHUP are always told.
  Watch(Loop& loop, int fd, u32 events, std::function<void(u32 revents)> callback);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  /// Changes what is waited for; 0 pauses the watch.
  void set_events(u32 events);

 private:
  PollState* state_;  // freed by the loop once the kernel has let go of it
};

/// A one-shot timer on CLOCK_MONOTONIC.
class Loop::Timer {
 public:
  Timer(Loop& loop, std::function<void()> callback) : loop_(loop), callback_(std::move(callback)) {}
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  /// (Re)arms for an absolute deadline; one in the past fires at the loop's next turn.
  void arm_at(u64 deadline_ns);
  void arm_in(u64 ns) { arm_at(monotonic_ns() + ns); }
  void cancel();
  bool armed() const { return armed_; }

 private:
  friend class Loop;
  Loop& loop_;
  std::function<void()> callback_;
  bool armed_ = false;
  std::multimap<u64, Timer*>::iterator place_;
};

/// A callback at the end of a turn, before the loop goes to sleep: for what is cheaper done once for a batch, such as one
/// interrupt for many completed requests.
class Loop::Deferred {
 public:
  Deferred(Loop& loop, std::function<void()> callback) : loop_(loop), callback_(std::move(callback)) {}
  ~Deferred() { cancel(); }
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;
  /// Asks for one call; asking again before it happens changes nothing.
  void schedule();
  void cancel();

 private:
  friend class Loop;
  Loop& loop_;
  std::function<void()> callback_;
  bool scheduled_ = false;
};

}  // namespace atl
