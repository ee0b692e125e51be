#include "img/info_text.h"

#include <gtest/gtest.h>

namespace atl::img {
namespace {

TEST(InfoText, LinesForPeopleNestByIndentation) {
  Json value{{"refcount-bits", 16}, {"bitmaps", Json::array({{{"name", "b0"}}})}};
  EXPECT_EQ(human_lines(value, 1), "    bitmaps:\n        [0]:\n            name: b0\n    refcount bits: 16\n");
}

TEST(InfoText, SizesHaveThreeDigits) {
  EXPECT_EQ(size_text(0), "0 B");
  EXPECT_EQ(size_text(999), "999 B");
  EXPECT_EQ(size_text(1000), "0.977 KiB");
  EXPECT_EQ(size_text(196 * kKiB), "196 KiB");
  EXPECT_EQ(size_text(10 * kGiB), "10 GiB");
  EXPECT_EQ(size_text(u64{1} << 62), "4 EiB");
}

}  // namespace
}  // namespace atl::img
