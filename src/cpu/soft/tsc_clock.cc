#include "cpu/soft/tsc_clock.h"

#include <cpuid.h>
#include <x86intrin.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace atl::soft {
namespace {

/// Between samples for the rate: the first that gives one, those that make it better, and when to begin anew.
constexpr u64 kFirstNs = 1'000'000, kBetterNs = 100'000'000, kAnewNs = 2'000'000'000;
/// Further behind than this the clock was set.
constexpr u64 kMostLagNs = 200'000;

/// Whether TSCs of all processors go evenly, and together: the kernel's own time depends on it.
bool host_time_is_tsc() {
  u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr u32 kInvariant = 1 << 8;
  if (!__get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) || !(edx & kInvariant)) return false;
  std::ifstream file("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  std::string source;
  return std::getline(file, source) && source == "tsc";
}

u64 scale(u64 value, u64 numerator, u64 denominator) {
  return static_cast<u64>(static_cast<unsigned __int128>(value) * numerator / denominator);
}

u64 time_at_end(const TscSegment& segment) { return segment.at(segment.begin + TscSegment::kTicks); }

}  // namespace

TscClock::TscClock(const VmClock& clock) : clock_(clock), usable_([] {
  static const bool usable = host_time_is_tsc();
  return usable;
}()) {}

u64 TscClock::now_ns(TscSegment& segment) {
  while (usable_ && clock_.running()) {
    const u64 tsc = __rdtsc();
    if (segment.holds(tsc)) return segment.at(tsc);
    std::lock_guard lock(mutex_);
    if (current_.rate != 0 && tsc < current_.begin) continue;  // another vCPU has begun a new one meanwhile
    // Without a new segment time stands at the end of the old one: others may still be inside of it.
    if (!current_.holds(tsc) && !renew()) return shown_ns_ = std::max(shown_ns_, current_.rate ? time_at_end(current_) : clock_.now_ns());
    segment = current_;
  }
  segment = {};
  return clock_.now_ns();
}

void TscClock::stop() {
  std::lock_guard lock(mutex_);
  if (current_.rate != 0) shown_ns_ = current_.at(std::min<u64>(__rdtsc(), current_.begin + TscSegment::kTicks));
  current_ = {};
}

/// Both clocks at one moment. False if the host took the processor away in the middle, again and again.
bool TscClock::sample(Sample& out) {
  constexpr u64 kSlack = 2000;
  for (int attempt = 0; attempt < 4; ++attempt) {
    const u64 before = __rdtsc();
    out.monotonic_ns = monotonic_ns();
    const u64 after = __rdtsc();
    out.tsc = before + (after - before) / 2;
    if (after - before < kSlack) return true;
  }
  return false;
}

bool TscClock::update_rate(const Sample& now) {
  if (origin_.tsc == 0) origin_ = now;
  const u64 elapsed = now.monotonic_ns - origin_.monotonic_ns;
  const bool better = elapsed >= kBetterNs || (rate_ == 0 && elapsed >= kFirstNs);
  if (better) rate_ = scale(elapsed, u64{1} << 32, now.tsc - origin_.tsc);
  if (elapsed >= kAnewNs) origin_ = now;
  return rate_ != 0;
}

/// The next segment, from now on.
bool TscClock::renew() {
  Sample now;
  if (!sample(now) || !update_rate(now)) return false;
  if (current_.rate != 0) {
    shown_ns_ = time_at_end(current_);
    if (now.tsc < current_.begin + TscSegment::kTicks) return false;
  }
  const u64 time = now.monotonic_ns - clock_.to_monotonic_ns(0);
  u64 ahead = shown_ns_ > time ? shown_ns_ - time : 0;
  if (ahead > kMostLagNs) ahead = 0;
  const u64 length_ns = TscSegment::kTicks * rate_ >> 32;
  current_ = {.begin = now.tsc, .base_ns = time + ahead, .rate = rate_ - scale(rate_, std::min(ahead, length_ns / 2), length_ns)};
  return true;
}

}  // namespace atl::soft
