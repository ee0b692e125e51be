#include "display/vnc/motion.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace atl::display::vnc {
namespace {

constexpr u32 kProbe = 32;            // pixels of a row that are looked for
constexpr u32 kMinTransitions = 6;    // in a probe: what is uniform is found everywhere
constexpr size_t kMaxProbes = 3, kMaxFound = 256, kMaxGrown = 12;
constexpr u32 kFactor = 0x9e3779b1;   // of the rolling hash

struct Place {
  u32 x, y;
};

bool rows_equal(std::span<const u32> a, std::span<const u32> b) { return std::memcmp(a.data(), b.data(), a.size_bytes()) == 0; }

u32 hash_of(std::span<const u32> pixels) {
  u32 hash = 0;
  for (u32 p : pixels) hash = hash * kFactor + p;
  return hash;
}

bool is_interesting(std::span<const u32> probe) {
  u32 transitions = 0;
  for (size_t i = 1; i < probe.size(); ++i) transitions += probe[i] != probe[i - 1];
  return transitions >= kMinTransitions;
}

/// The piece in the middle of those of a row that could tell: what moved is less likely to end inside of it.
std::optional<Place> choose_probe(const Surface& before, const Surface& now, const Rect& changed, u32 y) {
  std::vector<Place> pieces;
  for (u32 x = changed.x; x + kProbe <= changed.x + changed.width; x += kProbe / 2) {
    const auto piece = now.row(y).subspan(x, kProbe);
    if (!rows_equal(piece, before.row(y).subspan(x, kProbe)) && is_interesting(piece)) pieces.push_back({x, y});
  }
  if (pieces.empty()) return {};
  return pieces[pieces.size() / 2];
}

/// Pieces of changed rows, spread over the height.
std::vector<Place> choose_probes(const Surface& before, const Surface& now, const Rect& changed) {
  std::vector<Place> probes;
  for (u32 sixteenth : {8u, 4u, 12u, 2u, 14u, 6u, 10u, 0u}) {
    if (probes.size() == kMaxProbes) break;
    if (auto probe = choose_probe(before, now, changed, changed.y + changed.height * sixteenth / 16)) probes.push_back(*probe);
  }
  return probes;
}

/// Where in the old picture the probe stands, the nearest places first.
std::vector<Place> find_probe(const Surface& before, std::span<const u32> probe, Place at, const Rect& changed) {
  std::vector<Place> found;
  const u32 wanted = hash_of(probe);
  u32 leaving = 1;  // the factor of the oldest pixel
  for (u32 i = 1; i < kProbe; ++i) leaving *= kFactor;
  // From the probe's row up and down, row by row.
  for (u32 step = 0; step < 2 * changed.height && found.size() < kMaxFound; ++step) {
    const u32 distance = (step + 1) / 2, y = step % 2 ? at.y - distance : at.y + distance;  // wraps far out of the picture
    if (y < changed.y || y >= changed.y + changed.height) continue;
    const auto row = before.row(y).subspan(changed.x, changed.width);
    u32 hash = hash_of(row.first(kProbe));
    for (u32 x = 0;; ++x) {
      if (hash == wanted && rows_equal(row.subspan(x, kProbe), probe)) found.push_back({changed.x + x, y});
      if (x + kProbe >= row.size()) break;
      hash = (hash - row[x] * leaving) * kFactor + row[x + kProbe];
    }
  }
  auto steps = [&](const Place& p) { return std::abs(static_cast<i64>(p.x) - at.x) + std::abs(static_cast<i64>(p.y) - at.y); };
  std::ranges::sort(found, {}, steps);
  if (found.size() > kMaxGrown) found.resize(kMaxGrown);
  return found;
}

/// The rectangle around a probe inside `changed` that is equal, moved so.
Motion grow(const Surface& before, const Surface& now, const Rect& changed, Place to, Place from) {
  u32 left = 0, right = kProbe, up = 0, down = 1;  // distances from `to`
  const auto new_row = now.row(to.y), old_row = before.row(from.y);
  while (to.x - left > changed.x && from.x > left && new_row[to.x - left - 1] == old_row[from.x - left - 1]) ++left;
  const u32 end = changed.x + changed.width;
  while (to.x + right < end && from.x + right < before.width() && new_row[to.x + right] == old_row[from.x + right]) ++right;
  auto same_row = [&](u32 new_y, u32 old_y) {
    return rows_equal(now.row(new_y).subspan(to.x - left, left + right), before.row(old_y).subspan(from.x - left, left + right));
  };
  while (to.y - up > changed.y && from.y > up && same_row(to.y - up - 1, from.y - up - 1)) ++up;
  const u32 bottom = changed.y + changed.height;
  while (to.y + down < bottom && from.y + down < before.height() && same_row(to.y + down, from.y + down)) ++down;
  return {{to.x - left, to.y - up, left + right, up + down}, from.x - left, from.y - up};
}

/// Pixels that the movement makes right.
u64 worth(const Surface& before, const Surface& now, const Motion& motion) {
  u64 count = 0;
  for (u32 y = motion.to.y; y < motion.to.y + motion.to.height; ++y) {
    const auto old_row = before.row(y), new_row = now.row(y);
    for (u32 x = motion.to.x; x < motion.to.x + motion.to.width; ++x) count += old_row[x] != new_row[x];
  }
  return count;
}

}  // namespace

Rect difference(const Surface& before, const Surface& now) {
  u32 top = 0, bottom = now.height(), left = now.width(), right = 0;
  while (top < bottom && rows_equal(before.row(top), now.row(top))) ++top;
  while (bottom > top && rows_equal(before.row(bottom - 1), now.row(bottom - 1))) --bottom;
  for (u32 y = top; y < bottom; ++y) {
    const auto a = before.row(y), b = now.row(y);
    if (rows_equal(a, b)) continue;
    left = static_cast<u32>(std::ranges::mismatch(a.first(left), b.first(left)).in1 - a.begin());
    u32 last = now.width();
    while (last > right && a[last - 1] == b[last - 1]) --last;
    right = std::max(right, last);
  }
  if (top == bottom) return {};
  return {left, top, right - left, bottom - top};
}

std::optional<Motion> find_motion(const Surface& before, const Surface& now, const Rect& changed) {
  if (changed.width < kProbe || u64{changed.width} * changed.height < kMinMotion) return {};
  std::optional<Motion> best;
  u64 most = kMinMotion - 1;
  for (const Place& to : choose_probes(before, now, changed)) {
    const auto probe = now.row(to.y).subspan(to.x, kProbe);
    for (const Place& from : find_probe(before, probe, to, changed)) {
      const Motion motion = grow(before, now, changed, to, from);
      const u64 gain = worth(before, now, motion);
      if (gain <= most) continue;
      most = gain;
      best = motion;
    }
    if (most > u64{changed.width} * changed.height / 2) break;
  }
  return best;
}

void apply_motion(Surface& picture, const Motion& motion) {
  const Rect& to = motion.to;
  for (u32 i = 0; i < to.height; ++i) {
    const u32 y = motion.from_y < to.y ? to.height - 1 - i : i;  // rows that are still to be read are not written yet
    std::memmove(&picture.row(to.y + y)[to.x], &picture.row(motion.from_y + y)[motion.from_x], to.width * sizeof(u32));
  }
}

}  // namespace atl::display::vnc
