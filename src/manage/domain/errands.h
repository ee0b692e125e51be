// Work that must not hold up whoever finds it to do: each errand has a thread of its own, so that one VM's trouble is not another's.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <string>

#include "base/sync.h"
#include "base/thread.h"

namespace atl::manage {

class Errands {
 public:
  /// Waits for all of them: long ones look at is_ending().
  ~Errands() { finish(); }
  void run(std::string name, std::function<void()> work) EXCLUDES(mutex_);
  bool is_ending() const { return ending_; }
  /// No errand starts after this.
  void finish() EXCLUDES(mutex_);

 private:
  struct Errand {
    Thread thread;
    std::atomic<bool> done = false;
  };
  std::atomic<bool> ending_ = false;
  Mutex mutex_;
  std::list<std::unique_ptr<Errand>> errands_ GUARDED_BY(mutex_);
};

}  // namespace atl::manage
