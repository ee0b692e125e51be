#include "img/json_text.h"

#include <gmock/gmock.h>

namespace atl::img {
namespace {

using ::testing::ElementsAre;

TEST(JsonText, KeysStandInTheOrderOfQemusDictionaries) {
  Json info{{"filename", ""}, {"virtual-size", 0}, {"format", ""}, {"actual-size", 0}, {"dirty-flag", false}, {"cluster-size", 1}};
  EXPECT_THAT(ordered_keys(info), ElementsAre("virtual-size", "filename", "cluster-size", "format", "actual-size", "dirty-flag"));
}

TEST(JsonText, ObjectsAndListsAreIndented) {
  Json value{{"a", Json::array({1, "x"})}};
  EXPECT_EQ(pretty_json(value), "{\n    \"a\": [\n        1,\n        \"x\"\n    ]\n}");
  EXPECT_EQ(pretty_json(Json::array()), "[\n]");
}

TEST(JsonText, NamesThatAreNoUtf8DoNotFail) { EXPECT_FALSE(pretty_json(Json("\xff\xfe")).empty()); }

TEST(JsonText, LinesForPeopleNestByIndentation) {
  Json value{{"refcount-bits", 16}, {"bitmaps", Json::array({{{"name", "b0"}}})}};
  EXPECT_EQ(human_lines(value, 1), "    bitmaps:\n        [0]:\n            name: b0\n    refcount bits: 16\n");
}

TEST(JsonText, SizesHaveThreeDigits) {
  EXPECT_EQ(size_text(0), "0 B");
  EXPECT_EQ(size_text(999), "999 B");
  EXPECT_EQ(size_text(1000), "0.977 KiB");
  EXPECT_EQ(size_text(196 * kKiB), "196 KiB");
  EXPECT_EQ(size_text(10 * kGiB), "10 GiB");
  EXPECT_EQ(size_text(u64{1} << 62), "4 EiB");
}

}  // namespace
}  // namespace atl::img
