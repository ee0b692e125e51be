#include "img/numbers.h"

#include <gmock/gmock.h>

namespace atl::img {
namespace {

using ::testing::HasSubstr;

TEST(Numbers, AmountsTakeSuffixes) {
  EXPECT_EQ(parse_amount("x", "64k"), 64 * kKiB);
  EXPECT_EQ(parse_amount("x", "1.5M"), 3 * kMiB / 2);
  EXPECT_EQ(parse_amount("x", " 10"), 10u);
}

TEST(Numbers, WhatIsNoAmountExplainsSuffixes) {
  EXPECT_THAT(parse_amount("image size", "1y").error().text(), HasSubstr("Invalid image size specified. You may use k, M,"));
  EXPECT_THAT(parse_amount("image size", "").error().text(), HasSubstr("You may use"));
}

TEST(Numbers, WhatIsTooLargeNamesTheBounds) {
  EXPECT_THAT(parse_amount("image size", "8E").error().text(), HasSubstr("Must be between 0 and 9223372036854775807."));
  EXPECT_THAT(parse_amount("x", "99999999999999999999999").error().text(), HasSubstr("Must be between"));
  EXPECT_THAT(parse_amount("bs", "0", 1, 9).error().text(), HasSubstr("between 1 and 9."));
}

TEST(Numbers, CountsTakeNoSuffix) {
  EXPECT_EQ(parse_count("16", 1, 16, "no"), 16u);
  EXPECT_EQ(parse_count("1k", 1, 16, "no").error().text(), "no");
  EXPECT_EQ(parse_count("17", 1, 16, "no").error().text(), "no");
}

}  // namespace
}  // namespace atl::img
