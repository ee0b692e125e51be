// Guest time from the host's TSC, so that translated code can read it without a call.
//
// Guest time is VmClock's. In between its readings, a millisecond or so apart, it is taken to go on evenly with the host's TSC: a
// segment. All vCPUs use the same segment at the same moment, and each begins where the one before ended at the earliest, so
// that time never goes back, neither on one vCPU nor between two. A segment that would get ahead of VmClock goes slower.
//
// Only where the host itself takes its time from the TSC; elsewhere, and while the clock stands still, VmClock is read.
#pragma once

#include <mutex>

#include "base/vm_clock.h"

namespace atl::soft {

/// Each vCPU has its own copy, which it may use while holds().
struct TscSegment {
  static constexpr u64 kTicks = 1 << 22;  // 1.4 ms at 3 GHz

  u64 begin = u64{1} << 63;   // the host's TSC; at first a value that it does not reach
  u64 base_ns = 0;
  u64 rate = 0;               // nanoseconds a tick, times 2^32

  bool holds(u64 tsc) const { return tsc - begin < kTicks; }
  u64 at(u64 tsc) const { return base_ns + ((tsc - begin) * rate >> 32); }
};

class TscClock {
 public:
  explicit TscClock(const VmClock& clock);

  /// Guest time; `segment` is brought up to date. Any thread.
  u64 now_ns(TscSegment& segment);
  /// The clock is about to stop, and the vCPUs have. They forget their copies before they go on.
  void stop();

 private:
  struct Sample {
    u64 tsc = 0, monotonic_ns = 0;
  };
  static bool sample(Sample& out);
  bool renew();
  bool update_rate(const Sample& now);

  const VmClock& clock_;
  const bool usable_;
  std::mutex mutex_;      // what follows; held for a microsecond at most, once in a segment by each vCPU
  TscSegment current_;
  u64 shown_ns_ = 0;      // the latest time that anybody may have been shown before `current_`
  Sample origin_;
  u64 rate_ = 0;
};

}  // namespace atl::soft
