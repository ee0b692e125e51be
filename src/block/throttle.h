// Limits on requests and bytes a second, with bursts: leaky buckets, shared by the members of a group.
//
// The arithmetic is that of QEMU's throttling: a bucket leaks at the average rate; without `max` it holds a tenth of a second
// of it, with `max` as much as `burst_seconds` at that rate, while a second bucket keeps the burst itself below `max`.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "base/loop.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "base/types.h"

namespace atl::block {

struct RateBucket {
  u64 average = 0;        // units a second; 0: no limit
  u64 max = 0;            // during a burst; 0: no bursts
  u64 burst_seconds = 1;
};

struct ThrottleLimits {
  enum Index : u8 { IopsTotal, IopsRead, IopsWrite, BytesTotal, BytesRead, BytesWrite, kCount };
  std::array<RateBucket, kCount> buckets{};
  u64 iops_size = 0;      // a request of more bytes counts as several; 0: as one

  bool any() const;
  /// The error names what contradicts what.
  Status check() const;
};

/// Any thread.
class ThrottleGroup {
 public:
  ThrottleGroup(std::string name, ThrottleLimits limits) : name_(std::move(name)), limits_(limits) {}

  const std::string& name() const { return name_; }
  ThrottleLimits limits();
  /// What is under way keeps its place.
  void set_limits(const ThrottleLimits& limits);
  /// Takes the request into account; it may start after so many nanoseconds.
  u64 reserve(bool is_write, u64 bytes, u64 now_ns);

 private:
  struct Level {
    double level = 0, burst = 0;
  };
  void leak(u64 now_ns) REQUIRES(mutex_);

  const std::string name_;
  Mutex mutex_;
  ThrottleLimits limits_ GUARDED_BY(mutex_);
  std::array<Level, ThrottleLimits::kCount> levels_ GUARDED_BY(mutex_){};
  u64 last_ns_ GUARDED_BY(mutex_) = 0;
};

/// Waits as long as reserve() said, but not much longer than `hurries` is false: who drains a graph cannot wait for limits.
Task<Status> wait_for_share(Loop& loop, u64 wait_ns, std::function<bool()> hurries);

}  // namespace atl::block
