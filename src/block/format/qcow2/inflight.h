// Who is at work where: locks on ranges of the disk, and which requests may still use a cluster that has been freed.
#pragma once

#include <coroutine>
#include <deque>
#include <list>

#include "base/check.h"
#include "base/types.h"

namespace atl::block::qcow2 {

/// Ranges that one coroutine at a time may change the mapping of. Overlapping ones wait their turn.
class RangeLock {
  struct Entry {
    u64 start, end;
    std::coroutine_handle<> waiter;  // until it holds the range
  };

 public:
  class Guard {
   public:
    Guard(RangeLock& lock, std::list<Entry>::iterator entry) : lock_(&lock), entry_(entry) {}
    Guard(Guard&& other) noexcept : lock_(std::exchange(other.lock_, nullptr)), entry_(other.entry_) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (lock_) lock_->release(entry_);
    }

   private:
    RangeLock* lock_;
    std::list<Entry>::iterator entry_;
  };

  class Acquire {
   public:
    Acquire(RangeLock& lock, u64 start, u64 end) : lock_(lock) {
      entry_ = lock.entries_.insert(lock.entries_.end(), Entry{start, end, nullptr});
    }
    bool await_ready() const { return !lock_.blocked(entry_); }
    void await_suspend(std::coroutine_handle<> waiter) { entry_->waiter = waiter; }
    Guard await_resume() const { return Guard(lock_, entry_); }

   private:
    RangeLock& lock_;
    std::list<Entry>::iterator entry_;
  };

  RangeLock() = default;
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;
  ~RangeLock() { CHECK(entries_.empty()); }

  /// `RangeLock::Guard guard = co_await lock.acquire(start, end);`
  Acquire acquire(u64 start, u64 end) { return {*this, start, end}; }

 private:
  /// Whether an earlier entry, held or waiting, overlaps.
  bool blocked(std::list<Entry>::iterator entry) const {
    for (auto at = entries_.begin(); at != std::list<Entry>::const_iterator(entry); ++at)
      if (at->start < entry->end && entry->start < at->end) return true;
    return false;
  }
  void release(std::list<Entry>::iterator done) {
    const u64 start = done->start, end = done->end;
    entries_.erase(done);
    // Resuming changes the list, so the ready ones are taken down first.
    std::deque<std::coroutine_handle<>> ready;
    for (auto at = entries_.begin(); at != entries_.end(); ++at)
      if (at->waiter && at->start < end && start < at->end && !blocked(at))
        ready.push_back(std::exchange(at->waiter, nullptr));
    for (auto waiter : ready) waiter.resume();
  }

  std::list<Entry> entries_;
};

/// Counts requests by the time when they began. A cluster that nothing on the disk leads to any more may be used anew once
/// the requests that began before have ended: they may still read or write it.
class Epochs {
 public:
  class Request {
   public:
    explicit Request(Epochs& epochs) : epochs_(epochs), number_(epochs.current()) { ++epochs_.running_.back(); }
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;
    ~Request() { epochs_.end(number_); }

   private:
    Epochs& epochs_;
    u64 number_;
  };

  u64 current() const { return first_ + running_.size() - 1; }
  /// Begins a new epoch and gives the number of the one that ends.
  u64 advance() {
    u64 before = current();
    running_.push_back(0);
    trim();
    return before;
  }
  /// Whether nothing runs that began in epoch `number` or earlier.
  bool over(u64 number) const { return first_ > number || (running_.size() == 1 && running_.front() == 0); }
  bool idle() const { return running_.size() == 1 && running_.front() == 0; }

 private:
  void end(u64 number) {
    --running_[number - first_];
    trim();
  }
  void trim() {
    while (running_.size() > 1 && running_.front() == 0) {
      running_.pop_front();
      ++first_;
    }
  }

  u64 first_ = 0;
  std::deque<u64> running_ = {0};
};

}  // namespace atl::block::qcow2
