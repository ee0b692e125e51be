// How long a halted vCPU looks for its next event before it sleeps: to be woken costs more than to wait a moment.
//
// What KVM does for its vCPUs: where halts end soon, the time to look grows until it covers them; after one that no looking
// would have covered there is none. So idle guests cost nothing.
#pragma once

#include <algorithm>
#include <thread>

#include "base/types.h"

namespace atl::soft {

class HaltPoll {
 public:
  static constexpr u64 kFirstNs = 10'000, kMostNs = 80'000;

  /// With one processor nobody else could make the event while the vCPU looks for it.
  explicit HaltPoll(bool alone = std::thread::hardware_concurrency() == 1) : most_ns_(alone ? 0 : kMostNs) {}

  u64 limit_ns() const { return limit_ns_; }

  /// The vCPU was halted for so long, looking and asleep.
  void halted(u64 ns) {
    if (ns <= limit_ns_) return;
    limit_ns_ = ns > most_ns_ ? 0 : std::clamp(limit_ns_ * 2, kFirstNs, most_ns_);
  }

 private:
  u64 most_ns_;
  u64 limit_ns_ = 0;
};

}  // namespace atl::soft
