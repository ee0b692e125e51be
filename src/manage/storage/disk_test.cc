#include "manage/storage/disk.h"

#include <gtest/gtest.h>

#include "manage/storage/wipe.h"

namespace atl::manage {
namespace {

TEST(DiskTableTest, PartitionsAndGapsAreReadInOrder) {
  auto table = parse_disk_table(
      "BYT;\n/dev/loop0:67108864B:loopback:512:512:gpt:Loopback device:;\n1:17408B:1048575B:1031168B:free;\n"
      "1:1048576B:5242879B:4194304B:ext4:primary:;\n1:5242880B:67091967B:61849088B:free;\n");
  ASSERT_TRUE(table);
  EXPECT_EQ(table->bytes, 67108864u);
  ASSERT_EQ(table->extents.size(), 3u);
  EXPECT_EQ(table->extents[0].number, 0u);
  EXPECT_EQ(table->extents[1].number, 1u);
  EXPECT_EQ(table->extents[1].bytes(), 4194304u);
  EXPECT_EQ(table->extents[2].number, 0u);
  EXPECT_EQ(table->extents[2].begin, 5242880u);
}

TEST(DiskTableTest, NonsenseIsAnErrorAndExtentsPastTheEndAreLeftOut) {
  EXPECT_FALSE(parse_disk_table(""));
  EXPECT_FALSE(parse_disk_table("BYT;\nError: no disk: a: b\n"));
  auto table = parse_disk_table("BYT;\n/dev/x:1000B:a:512:512:gpt::;\n1:0B:5000B:5001B:ext4::;\n2:9B:3B:1B:ext4::;\n");
  ASSERT_TRUE(table);
  EXPECT_TRUE(table->extents.empty());
}

TEST(WipeTest, AlgorithmsHaveTheirNumberOfPasses) {
  const size_t passes[] = {1, 4, 4, 9, 35, 7, 7, 33, 1};
  for (u32 algorithm = 0; algorithm < 9; ++algorithm) {
    auto found = wipe_passes(algorithm);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->size(), passes[algorithm]) << algorithm;
  }
  EXPECT_EQ(wipe_passes(9).error().code(), Code::ArgumentUnsupported);
  EXPECT_EQ(wipe_passes(10).error().code(), Code::InvalidArg);
}

}  // namespace
}  // namespace atl::manage
