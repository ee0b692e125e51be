#include "cpu/soft/direct/policy.h"

#include <algorithm>

namespace atl::soft::direct {

Policy::Space* Policy::find(u64 root) {
  auto at = std::ranges::find(spaces_, root, &Space::root);
  return at == spaces_.end() ? nullptr : &*at;
}

Policy::Space& Policy::find_or_make(u64 root) {
  if (Space* space = find(root)) return *space;
  Space& oldest = *std::ranges::min_element(spaces_, {}, &Space::last);
  oldest = {.root = root};
  return oldest;
}

bool Policy::sampled(u64 root, u64 now) {
  Space& space = find_or_make(root);
  if (space.promoted) {
    space.last = now;
    return false;
  }
  if (now - space.last < ms_ / 2) return false;
  space.samples = now - space.last > 50 * ms_ ? 1 : space.samples + 1;
  space.last = now;
  if (space.samples < kSamples || now < space.not_before) return false;
  space.promoted = true;
  space.window = now;
  space.exits = 0;
  return true;
}

bool Policy::handed_over(u64 root, u64 now) {
  Space* space = find(root);
  if (!space || !space->promoted) return false;
  if (++space->exits < kWindow) return true;
  const bool often = space->exits * ms_ > kMostPerMs * (now - space->window);
  if (!often && space->failures > 0 && now - space->not_before > 1000 * ms_) space->failures = 0;
  space->window = now;
  space->exits = 0;
  if (often) demote(root, now);
  return !often;
}

bool Policy::missed_page(u64 root, u64 now) {
  Space* space = find(root);
  if (!space || !space->promoted) return false;
  const u64 more = (now - space->filled) * kFreePagesPerMs / ms_;
  if (more > 0) {
    space->free_pages = std::min(space->free_pages + more, kFreePages);
    space->filled = now;
  }
  if (space->free_pages == 0) return handed_over(root, now);
  --space->free_pages;
  return true;
}

void Policy::sampled_kernel(u64 root) {
  if (Space* space = find(root)) space->samples = 0;
}

void Policy::demote(u64 root, u64 now) {
  Space* space = find(root);
  if (!space) return;
  space->promoted = false;
  space->samples = 0;
  space->not_before = now + (ms_ * 8 << std::min(space->failures++, kMostBackOff));
}

}  // namespace atl::soft::direct
