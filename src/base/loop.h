// An event loop over io_uring: descriptors to watch, timers, posted functions, and file I/O as awaitables.
//
// A loop belongs to the one thread that calls run(). post() and stop() may be called from any thread; everything else
// only on the loop's thread, or before run() starts. Callbacks never nest: nothing here waits.
#pragma once

#include <sys/uio.h>

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
  class Request;

  static Result<std::unique_ptr<Loop>> create(unsigned entries = 256);
  ~Loop();

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
  struct Completion;
  struct PollState;

  Loop() = default;
  io_uring_sqe* next_sqe();
  void dispatch_completions();
  void run_posted();
  void run_timers();
  u64 next_timeout_ns(u64 limit_ns) const;
  void arm_poll(PollState* state);

  io_uring ring_{};
  bool ring_ready_ = false;
  Fd wake_;                // eventfd: posted work or stop
  std::unique_ptr<Watch> wake_watch_;
  bool stopping_ = false;  // loop thread
  pthread_t thread_{};
  std::multimap<u64, Timer*> timers_;  // by deadline, CLOCK_MONOTONIC ns
  Mutex mutex_;
  std::vector<std::function<void()>> posted_ GUARDED_BY(mutex_);
  bool stop_requested_ GUARDED_BY(mutex_) = false;
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

}  // namespace atl
