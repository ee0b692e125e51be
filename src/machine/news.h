// Events that other threads have reported and that the control thread has not told yet, in their order.
#pragma once

#include <deque>
#include <optional>

#include "base/sync.h"
#include "machine/machine.h"

namespace atl::machine {

/// Any thread.
class News {
 public:
  void add(Event event) {
    Lock lock(mutex_);
    waiting_.push_back(std::move(event));
    ++added_;
  }
  u64 added() {
    Lock lock(mutex_);
    return added_;
  }
  /// The oldest, if it is one of the first `count` that were ever added.
  std::optional<Event> take(u64 count) {
    Lock lock(mutex_);
    if (waiting_.empty() || added_ - waiting_.size() >= count) return std::nullopt;
    Event event = std::move(waiting_.front());
    waiting_.pop_front();
    return event;
  }

 private:
  Mutex mutex_;
  std::deque<Event> waiting_ GUARDED_BY(mutex_);
  u64 added_ GUARDED_BY(mutex_) = 0;
};

}  // namespace atl::machine
