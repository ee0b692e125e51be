#include "display/vnc/motion.h"

#include <gtest/gtest.h>

namespace atl::display::vnc {
namespace {

u32 noise(u32 x, u32 y) {
  u32 mixed = (x * 2654435761u) ^ (y * 2246822519u);
  mixed = (mixed ^ mixed >> 15) * 3266489917u;
  return mixed >> 8;
}

/// A window of noise on plain paper.
Surface with_window(u32 left, u32 top) {
  Surface s(200, 150);
  for (u32 y = 0; y < 60; ++y)
    for (u32 x = 0; x < 80; ++x) s.row(top + y)[left + x] = noise(x, y);
  return s;
}

TEST(VncMotionTest, WindowIsFoundInEveryDirection) {
  struct {
    u32 x, y;
  } constexpr kEnds[] = {{54, 40}, {46, 40}, {50, 43}, {50, 31}, {57, 45}, {41, 36}, {120, 90}};
  const Surface before = with_window(50, 40);
  for (const auto& end : kEnds) {
    const Surface now = with_window(end.x, end.y);
    const auto motion = find_motion(before, now, difference(before, now));
    ASSERT_TRUE(motion) << end.x << "," << end.y;
    EXPECT_EQ(motion->to.x - motion->from_x, end.x - 50);
    EXPECT_EQ(motion->to.y - motion->from_y, end.y - 40);
    Surface moved = before;
    apply_motion(moved, *motion);
    for (u32 y = 0; y < 60; ++y)
      for (u32 x = 0; x < 80; ++x) ASSERT_EQ(moved.row(end.y + y)[end.x + x], now.row(end.y + y)[end.x + x]);
  }
}

TEST(VncMotionTest, ScrolledTextIsOneMovement) {
  Surface before(160, 128), now(160, 128);
  for (u32 y = 0; y < 128; ++y)
    for (u32 x = 0; x < 160; ++x) {
      before.row(y)[x] = noise(x, y) & 1;
      now.row(y)[x] = noise(x, y + 16) & 1;
    }
  const auto motion = find_motion(before, now, difference(before, now));
  ASSERT_TRUE(motion);
  EXPECT_EQ(motion->to, (Rect{0, 0, 160, 112}));
  EXPECT_EQ(motion->from_y, 16u);
}

TEST(VncMotionTest, NothingIsFoundWhereNothingMoved) {
  const Surface before = with_window(50, 40);
  EXPECT_EQ(difference(before, before), Rect());
  Surface now = before;
  now.row(70)[90] ^= 1;
  EXPECT_EQ(difference(before, now), (Rect{90, 70, 1, 1}));
  EXPECT_FALSE(find_motion(before, now, difference(before, now)));
  for (u32 y = 40; y < 100; ++y)
    for (u32 x = 50; x < 130; ++x) now.row(y)[x] = noise(x + 1000, y * 7);
  EXPECT_FALSE(find_motion(before, now, difference(before, now)));
  EXPECT_FALSE(find_motion(Surface(8, 8), Surface(8, 8), {0, 0, 8, 8}));
}

}  // namespace
}  // namespace atl::display::vnc
