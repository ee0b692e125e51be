#include "cpu/soft/irq/timer_queue.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace atl::soft {

Status TimerQueue::start() {
  thread_ = TRY(Thread::start("timers", [this] { loop(); }));
  return {};
}

void TimerQueue::stop() {
  {
    Lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

TimerQueue::Id TimerQueue::add(Client& client) {
  Lock lock(mutex_);
  entries_.push_back({.client = &client});
  return entries_.size() - 1;
}

void TimerQueue::remove(Id id) {
  Lock lock(mutex_);
  Client* client = std::exchange(entries_[id], Entry{}).client;
  while (firing_ == client) fired_.wait(lock);
}

void TimerQueue::arm(Id id, u64 deadline_ns) {
  bool sooner = false;
  {
    Lock lock(mutex_);
    entries_[id].deadline_ns = deadline_ns;
    sooner = deadline_ns < sleeping_until_ns_;
    // One call is enough to wake the thread, however many timers are armed until it runs.
    if (sooner) sleeping_until_ns_ = 0;
  }
  if (sooner) changed_.notify_one();
}

void TimerQueue::catch_up() {
  Lock lock(mutex_);
  if (!stopping_ && clock_.running()) fire_due(lock);
}

void TimerQueue::clock_changed() {
  {
    Lock lock(mutex_);
    sleeping_until_ns_ = 0;
  }
  changed_.notify_one();
}

u64 TimerQueue::next_deadline() const {
  u64 first = kNever;
  for (const Entry& entry : entries_) first = std::min(first, entry.deadline_ns);
  return first;
}

void TimerQueue::loop() {
  ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);  // wake on time, not up to 50 us later
  Lock lock(mutex_);
  while (!stopping_) {
    if (clock_.running()) fire_due(lock);
    if (!stopping_) sleep(lock);
  }
}

void TimerQueue::sleep(Lock& lock) {
  constexpr u64 kLongest_ns = u64{3600} * 1'000'000'000;  // guests may set deadlines that the host's time_point cannot hold
  const u64 deadline_ns = next_deadline();
  const bool running = clock_.running();
  const u64 now_ns = clock_.now_ns();  // asked once: a deadline that passes meanwhile must not become a wait without end
  if (running && deadline_ns <= now_ns) return;
  sleeping_until_ns_ = running ? deadline_ns : 0;  // a paused clock ends by clock_changed() only
  if (!running || deadline_ns == kNever) {
    changed_.wait(lock);
  } else {
    const std::chrono::nanoseconds wait(std::min(deadline_ns - now_ns, kLongest_ns));
    changed_.wait_until(lock, std::chrono::steady_clock::now() + wait);
  }
  sleeping_until_ns_ = 0;
}

void TimerQueue::fire_due(Lock& lock) {
  while (firing_) fired_.wait(lock);  // by the other thread
  u64 now_ns = clock_.now_ns();
  for (Id id = 0; id < entries_.size() && !stopping_; ++id) {
    Entry& entry = entries_[id];
    if (!entry.client || entry.deadline_ns > now_ns) continue;
    entry.deadline_ns = kNever;
    Client* client = firing_ = entry.client;
    mutex_.unlock();
    client->timer_due(now_ns);
    mutex_.lock();
    firing_ = nullptr;
    fired_.notify_all();
  }
}

}  // namespace atl::soft
