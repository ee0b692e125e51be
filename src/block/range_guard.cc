#include "block/range_guard.h"

#include <algorithm>

namespace atl::block {

bool RangeGuard::overlaps(const Ranges& ranges, u64 offset, u64 bytes) {
  return std::ranges::any_of(ranges, [&](const Range& range) {
    return range.offset < offset + bytes && offset < range.offset + range.bytes;
  });
}

void RangeGuard::remove(Ranges& ranges, u64 offset, u64 bytes) {
  auto found = std::ranges::find(ranges, Range{offset, bytes});
  if (found != ranges.end()) ranges.erase(found);
}

void RangeGuard::wake() {
  for (auto waiter : std::exchange(waiting_, {})) waiter.resume();
}

Task<Status> RangeGuard::lock(u64 offset, u64 bytes) {
  while (overlaps(copies_, offset, bytes)) {
    Change change{*this};
    co_await change;
  }
  copies_.push_back({offset, bytes});
  while (overlaps(writes_, offset, bytes)) {
    Change change{*this};
    co_await change;
  }
  co_return Status{};
}

void RangeGuard::unlock(u64 offset, u64 bytes) {
  remove(copies_, offset, bytes);
  wake();
}

Task<Status> RangeGuard::before_write(u64 offset, u64 bytes) {
  while (overlaps(copies_, offset, bytes)) {
    Change change{*this};
    co_await change;
  }
  writes_.push_back({offset, bytes});
  co_return Status{};
}

void RangeGuard::written(u64 offset, u64 bytes) {
  remove(writes_, offset, bytes);
  wake();
}

}  // namespace atl::block
