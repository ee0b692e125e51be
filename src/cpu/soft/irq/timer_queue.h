// The thread that fires a VM's timers (8254 channel 0, local APIC timers) in guest time.
#pragma once

#include <condition_variable>
#include <vector>

#include "base/sync.h"
#include "base/thread.h"
#include "base/vm_clock.h"

namespace atl::soft {

/// One per VM. Any thread may arm and disarm. While the clock is paused nothing fires.
class TimerQueue {
 public:
  static constexpr u64 kNever = ~u64{0};

  class Client {
   public:
    virtual ~Client() = default;
    /// The armed time has come, and the timer is disarmed. On the timer thread or in catch_up(), without any lock held; a call may
    /// still be on its way when arm() or disarm() returns, so the client compares with what it knows itself.
    virtual void timer_due(u64 now_ns) = 0;
  };

  explicit TimerQueue(VmClock& clock) : clock_(clock) {}
  ~TimerQueue() { stop(); }
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  Status start();
  using Id = size_t;
  /// `client` stays until remove().
  Id add(Client& client) EXCLUDES(mutex_);
  /// No call to the client is under way or will come afterwards. Not from timer_due().
  void remove(Id id) EXCLUDES(mutex_);
  void arm(Id id, u64 deadline_ns) EXCLUDES(mutex_);
  void disarm(Id id) EXCLUDES(mutex_) { arm(id, kNever); }
  /// What is due has been fired when this returns, though the timer thread may have had no time on the host's CPUs: a guest that
  /// looks at a clock must not see a period pass without its tick. Any thread that holds no lock and is not in timer_due().
  void catch_up() EXCLUDES(mutex_);
  /// The clock was paused, resumed or set.
  void clock_changed() EXCLUDES(mutex_);
  /// Ends the thread: nothing fires any more.
  void stop() EXCLUDES(mutex_);

 private:
  struct Entry {
    Client* client = nullptr;
    u64 deadline_ns = kNever;
  };

  void loop();
  u64 next_deadline() const REQUIRES(mutex_);
  void sleep(Lock& lock) REQUIRES(mutex_);
  void fire_due(Lock& lock) REQUIRES(mutex_);

  VmClock& clock_;
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::condition_variable_any fired_;
  std::vector<Entry> entries_ GUARDED_BY(mutex_);
  u64 sleeping_until_ns_ GUARDED_BY(mutex_) = 0;  // guest time; 0: the thread is not asleep
  Client* firing_ GUARDED_BY(mutex_) = nullptr;
  bool stopping_ GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace atl::soft
