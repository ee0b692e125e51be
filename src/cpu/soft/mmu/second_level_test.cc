#include "cpu/soft/mmu/second_level.h"

#include <gtest/gtest.h>

namespace atl::soft {
namespace {

constexpr u64 kLinear = 0x7f12'3456'7000, kHigh = 0xffff'8880'1234'5000;

class SecondLevelTest : public testing::Test {
 protected:
  bool holds(u16 space, u64 linear) {
    PageMapping page;
    return level->find(space, linear, page);
  }
  std::unique_ptr<SecondLevel> level = std::make_unique<SecondLevel>();
};

TEST_F(SecondLevelTest, GivesBackWhatWasInserted) {
  level->insert(3, kLinear, {.gpa = 0x9000, .user = true, .writable = false, .executable = true, .dirty = false});
  PageMapping page;
  ASSERT_TRUE(level->find(3, kLinear + 0x123, page));
  EXPECT_EQ(page.gpa, 0x9123u);
  EXPECT_EQ(page.page_shift, 12);
  EXPECT_TRUE(page.user && page.executable);
  EXPECT_FALSE(page.writable || page.dirty || page.global);
}

TEST_F(SecondLevelTest, SpacesDoNotSeeEachOther) {
  level->insert(1, kLinear, {.gpa = 0x1000});
  EXPECT_FALSE(holds(2, kLinear));
  EXPECT_FALSE(holds(0, kLinear));
}

TEST_F(SecondLevelTest, GlobalPagesBelongToAllSpaces) {
  level->insert(1, kHigh, {.gpa = 0x1000, .global = true});
  EXPECT_TRUE(holds(2, kHigh));
  level->flush(2);
  level->flush_spaces();
  EXPECT_TRUE(holds(1, kHigh));
  level->flush_all();
  EXPECT_FALSE(holds(1, kHigh));
}

TEST_F(SecondLevelTest, FlushOfASpaceLeavesOthers) {
  level->insert(1, kLinear, {.gpa = 0x1000});
  level->insert(2, kLinear, {.gpa = 0x2000});
  level->flush(1);
  EXPECT_FALSE(holds(1, kLinear));
  EXPECT_TRUE(holds(2, kLinear));
}

TEST_F(SecondLevelTest, LargePageIsOneEntryForAllItsAddresses) {
  level->insert(0, kHigh, {.gpa = 0x4000'5000 | (kHigh & 0x1f'f000), .page_shift = 21});
  PageMapping page;
  const u64 other = (kHigh & ~u64{0x1fffff}) + 0x1f'1234;
  ASSERT_TRUE(level->find(0, other, page));
  EXPECT_EQ(page.gpa, (0x4000'5000 & ~u64{0x1fffff}) + 0x1f'1234);
  level->flush_page(0, kHigh, false);
  EXPECT_FALSE(holds(0, other));
}

TEST_F(SecondLevelTest, FlushOfAnAddressDropsAllPiecesOfItsGibPage) {
  const u64 start = kHigh & ~u64{0x3fffffff};
  level->insert(0, start, {.gpa = 0, .page_shift = 30, .global = true});
  level->insert(0, start + 0x600000, {.gpa = 0x600000, .page_shift = 30, .global = true});
  level->insert(0, start + 0x40000000, {.gpa = 0x40000000, .page_shift = 30, .global = true});
  level->flush_page(0, start + 0x123456, true);
  EXPECT_FALSE(holds(0, start));
  EXPECT_FALSE(holds(0, start + 0x600000));
  EXPECT_TRUE(holds(0, start + 0x40000000));
}

TEST_F(SecondLevelTest, FlushOfAnAddressKeepsGlobalPagesIfAsked) {
  level->insert(0, kHigh, {.gpa = 0x1000, .global = true});
  level->flush_page(0, kHigh, false);
  EXPECT_TRUE(holds(0, kHigh));
  level->flush_page(0, kHigh, true);
  EXPECT_FALSE(holds(0, kHigh));
}

TEST_F(SecondLevelTest, NewMappingReplacesTheOldOne) {
  level->insert(0, kLinear, {.gpa = 0x1000, .dirty = false});
  level->insert(0, kLinear, {.gpa = 0x1000, .dirty = true});
  level->flush_page(0, kLinear, false);
  EXPECT_FALSE(holds(0, kLinear));
}

TEST_F(SecondLevelTest, HoldsAThousandPagesInARow) {
  for (u64 i = 0; i < 1024; ++i) level->insert(5, kLinear + i * kPageSize, {.gpa = i * kPageSize});
  for (u64 i = 0; i < 1024; ++i) EXPECT_TRUE(holds(5, kLinear + i * kPageSize)) << i;
}

}  // namespace
}  // namespace atl::soft
