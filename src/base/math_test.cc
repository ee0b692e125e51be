#include "base/math.h"

#include <gtest/gtest.h>

#include "base/endian.h"

namespace atl {
namespace {

TEST(Math, CheckedOperationsRefuseOverflow) {
  EXPECT_EQ(checked_add(1, 2), 3u);
  EXPECT_FALSE(checked_add(~u64{0}, 1));
  EXPECT_EQ(checked_mul(1u << 31, 2), u64{1} << 32);
  EXPECT_FALSE(checked_mul(u64{1} << 63, 2));
}

TEST(Math, RangeFitsDoesNotWrapAround) {
  EXPECT_TRUE(range_fits(0, 10, 10));
  EXPECT_FALSE(range_fits(1, 10, 10));
  EXPECT_TRUE(range_fits(10, 0, 10));
  EXPECT_FALSE(range_fits(~u64{0}, 2, 10));
  EXPECT_FALSE(range_fits(5, ~u64{0}, 10));
}

TEST(Math, AlignmentRoundsToThePower) {
  EXPECT_EQ(align_down(4097, 4096), 4096u);
  EXPECT_EQ(align_up(4097, 4096), 8192u);
  EXPECT_EQ(align_up(4096, 4096), 4096u);
  EXPECT_TRUE(is_power_of_two(1));
  EXPECT_FALSE(is_power_of_two(0));
  EXPECT_FALSE(is_power_of_two(6));
  EXPECT_EQ(bits(0xabcd, 4, 8), 0xbcu);
}

TEST(Endian, LoadsAndStoresInBothOrders) {
  u8 raw[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(load_le<u32>(raw), 0x04030201u);
  EXPECT_EQ(load_be<u32>(raw), 0x01020304u);
  EXPECT_EQ(load_be<u64>(raw), 0x0102030405060708u);
  store_be<u16>(raw + 1, 0xaabb);
  EXPECT_EQ(raw[1], 0xaa);
  store_le<u16>(raw + 1, 0xaabb);
  EXPECT_EQ(raw[1], 0xbb);
}

TEST(Endian, LoadOfSomeBytesExtendsWithZeroes) {
  u8 raw[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  EXPECT_EQ(load_le_n(raw, 2), 0xffffu);
  EXPECT_EQ(byte_mask(1), 0xffu);
  EXPECT_EQ(byte_mask(8), ~u64{0});
}

}  // namespace
}  // namespace atl
