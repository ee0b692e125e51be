#include "block/dirty_bitmap.h"

#include <gtest/gtest.h>

#include <random>

namespace atl::block {
namespace {

TEST(DirtyBitmap, CountsWhatIsSetAndCleared) {
  DirtyBitmap bitmap("b", 10 * kMiB + 100, 65536);
  bitmap.set(1, 1);
  bitmap.set(65535, 2);
  EXPECT_EQ(bitmap.dirty_bytes(), 2 * 65536u);
  bitmap.clear(0, 65536);
  EXPECT_EQ(bitmap.dirty_bytes(), 65536u);
  bitmap.set(0, ~u64{0});
  EXPECT_EQ(bitmap.dirty_bytes(), 161 * 65536u);
  bitmap.clear_all();
  EXPECT_TRUE(bitmap.is_clean());
}

TEST(DirtyBitmap, RunsAgreeWithSingleBits) {
  std::mt19937_64 random(1);
  DirtyBitmap bitmap("b", 1000 * 512 + 7, 512);
  for (int i = 0; i < 200; ++i) bitmap.set(random() % bitmap.size_bytes(), random() % 5000);
  u64 at = 0, total = 0;
  while (auto run = bitmap.next_dirty(at, 4096)) {
    for (u64 b = at; b < run->offset; b += 512) EXPECT_FALSE(bitmap.get(b));
    for (u64 b = run->offset; b < run->offset + run->bytes; b += 512) EXPECT_TRUE(bitmap.get(b));
    at = run->offset + run->bytes;
    total += run->bytes;
  }
  EXPECT_LE(total, bitmap.dirty_bytes());
  EXPECT_GT(total + 512, bitmap.dirty_bytes());
}

TEST(DirtyBitmap, MergeTranslatesGranularities) {
  DirtyBitmap fine("f", kMiB, 512), coarse("c", kMiB, 65536);
  fine.set(70000, 1);
  coarse.merge(fine);
  EXPECT_TRUE(coarse.get(65536));
  EXPECT_EQ(coarse.dirty_bytes(), 65536u);
}

TEST(DirtyBitmap, ShrinkingForgetsWhatLiesBehind) {
  DirtyBitmap bitmap("b", kMiB, 65536);
  bitmap.set(0, kMiB);
  bitmap.resize(128 * kKiB);
  EXPECT_EQ(bitmap.dirty_bytes(), 128 * kKiB);
  bitmap.resize(kMiB);
  EXPECT_FALSE(bitmap.get(512 * kKiB));
}

}  // namespace
}  // namespace atl::block
