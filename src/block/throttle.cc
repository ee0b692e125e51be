#include "block/throttle.h"

#include <fmt/format.h>

#include <algorithm>

namespace atl::block {
namespace {

constexpr u64 kLargest = 1'000'000'000'000'000;  // 10^15, QEMU's bound too

Status check_bucket(const RateBucket& bucket) {
  if (bucket.average > kLargest || bucket.max > kLargest)
    return Error(ErrorKind::Invalid, fmt::format("bps/iops/max values must be within [0, {}]", kLargest));
  if (bucket.max && !bucket.average)
    return Error(ErrorKind::Invalid, "bps_max/iops_max require corresponding bps/iops values");
  if (bucket.max && bucket.max < bucket.average)
    return Error(ErrorKind::Invalid, "bps_max/iops_max cannot be lower than bps/iops");
  if (!bucket.burst_seconds) return Error(ErrorKind::Invalid, "the burst length cannot be 0");
  if (bucket.burst_seconds > 1 && !bucket.max)
    return Error(ErrorKind::Invalid, "burst length set without burst rate");
  if (bucket.max && bucket.burst_seconds > kLargest / bucket.max)
    return Error(ErrorKind::Invalid, "burst length too high for this burst rate");
  return {};
}

double capacity(const RateBucket& bucket) {
  if (!bucket.max) return static_cast<double>(bucket.average) / 10;
  return static_cast<double>(bucket.max) * static_cast<double>(bucket.burst_seconds);
}

}  // namespace

bool ThrottleLimits::any() const {
  return std::ranges::any_of(buckets, [](const RateBucket& bucket) { return bucket.average != 0; });
}

Status ThrottleLimits::check() const {
  for (u8 first : {IopsTotal, BytesTotal}) {
    if (buckets[first].average && (buckets[first + 1].average || buckets[first + 2].average))
      return Error(ErrorKind::Invalid, "bps/iops/max total values and read/write values cannot be used at the same time");
    if (buckets[first].max && (buckets[first + 1].max || buckets[first + 2].max))
      return Error(ErrorKind::Invalid, "bps/iops/max total values and read/write values cannot be used at the same time");
  }
  if (iops_size && !buckets[IopsTotal].average && !buckets[IopsRead].average && !buckets[IopsWrite].average)
    return Error(ErrorKind::Invalid, "iops size requires an iops value to be set");
  for (const RateBucket& bucket : buckets) TRY(check_bucket(bucket));
  return {};
}

ThrottleLimits ThrottleGroup::limits() {
  Lock lock(mutex_);
  return limits_;
}

void ThrottleGroup::set_limits(const ThrottleLimits& limits) {
  Lock lock(mutex_);
  limits_ = limits;
  levels_ = {};
}

void ThrottleGroup::leak(u64 now_ns) {
  const double seconds = last_ns_ && now_ns > last_ns_ ? static_cast<double>(now_ns - last_ns_) / 1e9 : 0;
  last_ns_ = std::max(last_ns_, now_ns);
  for (u8 i = 0; i < ThrottleLimits::kCount; ++i) {
    const RateBucket& bucket = limits_.buckets[i];
    levels_[i].level = std::max(0.0, levels_[i].level - seconds * static_cast<double>(bucket.average));
    levels_[i].burst = std::max(0.0, levels_[i].burst - seconds * static_cast<double>(bucket.max));
  }
}

u64 ThrottleGroup::reserve(bool is_write, u64 bytes, u64 now_ns) {
  Lock lock(mutex_);
  leak(now_ns);
  double requests = 1;
  if (limits_.iops_size && bytes > limits_.iops_size)
    requests = static_cast<double>(bytes) / static_cast<double>(limits_.iops_size);
  double wait_seconds = 0;
  for (u8 i = 0; i < ThrottleLimits::kCount; ++i) {
    const RateBucket& bucket = limits_.buckets[i];
    const bool applies = i % 3 == 0 || (i % 3 == 2) == is_write;
    if (!bucket.average || !applies) continue;
    Level& level = levels_[i];
    // A bucket that is not yet too full lets the request pass, whatever its size: the next ones pay for it.
    wait_seconds = std::max(wait_seconds, (level.level - capacity(bucket)) / static_cast<double>(bucket.average));
    if (bucket.max)
      wait_seconds = std::max(wait_seconds, (level.burst - static_cast<double>(bucket.max) / 10) / static_cast<double>(bucket.max));
    const double units = i < ThrottleLimits::BytesTotal ? requests : static_cast<double>(bytes);
    level.level += units;
    level.burst += units;
  }
  return wait_seconds > 0 ? static_cast<u64>(wait_seconds * 1e9) : 0;
}

Task<Status> wait_for_share(Loop& loop, u64 wait_ns, std::function<bool()> hurries) {
  constexpr u64 kLookNs = 20'000'000;
  while (wait_ns && !hurries()) {
    const u64 ns = std::min(wait_ns, kLookNs);
    co_await loop.sleep(ns);
    wait_ns -= ns;
  }
  co_return Status{};
}

}  // namespace atl::block
