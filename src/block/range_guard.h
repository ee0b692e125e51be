// Keeps writes of users and copies of a job from meeting in one range: for jobs that write to a node in use (stream), and for
// those that must copy what a write is about to overwrite (backup).
#pragma once

#include <list>

#include "block/root.h"

namespace atl::block {

class RangeGuard : public WriteObserver {
 public:
  /// Attached while the graph is drained, so that every write under way is known.
  RangeGuard() = default;

  /// Waits until no write and no other copy is under way in the range; writes there wait until unlock().
  Task<Status> lock(u64 offset, u64 bytes);
  void unlock(u64 offset, u64 bytes);

  Task<Status> before_write(u64 offset, u64 bytes) override;
  void written(u64 offset, u64 bytes) override;

 protected:
  struct Range {
    u64 offset, bytes;
    bool operator==(const Range&) const = default;
  };
  using Ranges = std::list<Range>;
  static bool overlaps(const Ranges& ranges, u64 offset, u64 bytes);
  static void remove(Ranges& ranges, u64 offset, u64 bytes);
  void wake();

  struct Change {
    RangeGuard& guard;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> waiter) { guard.waiting_.push_back(waiter); }
    void await_resume() const {}
  };

  Ranges writes_, copies_;
  std::vector<std::coroutine_handle<>> waiting_;
};

}  // namespace atl::block
