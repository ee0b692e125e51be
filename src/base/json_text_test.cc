#include "base/json_text.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace atl {
namespace {

using Json = nlohmann::json;
using ::testing::ElementsAre;

TEST(JsonText, KeysStandInTheOrderOfQemusDictionaries) {
  Json info{{"filename", ""}, {"virtual-size", 0}, {"format", ""}, {"actual-size", 0}, {"dirty-flag", false}, {"cluster-size", 1}};
  EXPECT_THAT(ordered_keys(info), ElementsAre("virtual-size", "filename", "cluster-size", "format", "actual-size", "dirty-flag"));
}

TEST(JsonText, AnEventBeginsWithItsTime) {
  Json event{{"data", ""}, {"event", ""}, {"timestamp", 0}};
  EXPECT_THAT(ordered_keys(event), ElementsAre("timestamp", "event", "data"));
}

TEST(JsonText, WhatIsEmptyTakesALineOfItsOwnWhenIndented) {
  Json value{{"a", Json::array()}};
  EXPECT_EQ(json_text(value), R"({"a": []})");
  EXPECT_EQ(json_text(value, true), "{\n    \"a\": [\n    ]\n}");
}

TEST(JsonText, HasQemusSpacing) {
  EXPECT_EQ(json_text(Json{{"a", 1}, {"b", Json::array({true, nullptr, "x"})}}), R"({"a": 1, "b": [true, null, "x"]})");
  EXPECT_EQ(json_text(Json::object()), "{}");
}

TEST(JsonText, PrettyBreaksLines) {
  EXPECT_EQ(json_text(Json{{"a", Json::array({1, 2})}}, true), "{\n    \"a\": [\n        1,\n        2\n    ]\n}");
}

TEST(JsonText, EscapesWhatIsNotPrintableAscii) {
  EXPECT_EQ(json_text(Json("a\"\\\n\x01\xc3\xa9\xf0\x9f\x98\x80")), R"("a\"\\\n\u0001\u00E9\uD83D\uDE00")");
}

TEST(JsonText, MalformedUtf8BecomesTheReplacementCharacter) {
  EXPECT_EQ(json_text(Json("\xff\xc3")), R"("\uFFFD\uFFFD")");
}

}  // namespace
}  // namespace atl
