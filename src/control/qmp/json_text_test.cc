#include "control/qmp/json_text.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace atl::control {
namespace {

using Json = nlohmann::json;

std::vector<JsonFramer::Frame> frames_of(std::string_view text) {
  JsonFramer framer;
  std::vector<JsonFramer::Frame> frames;
  for (char c : text)
    if (auto frame = framer.feed(c)) frames.push_back(*frame);
  return frames;
}

TEST(ParseJson, RefusesTrailingTextAndDeepNesting) {
  EXPECT_TRUE(parse_json(R"({"a": [1]})"));
  EXPECT_FALSE(parse_json("{} x"));
  EXPECT_FALSE(parse_json("{"));
  EXPECT_FALSE(parse_json(std::string(kJsonLimitDepth + 1, '[') + std::string(kJsonLimitDepth + 1, ']')));
  EXPECT_FALSE(parse_json("{\"a\": \"\xff\"}"));
}

TEST(JsonFramer, CutsAStreamIntoValues) {
  auto frames = frames_of(R"( {"a":"}{\""} [1,2]  3 {"b":{}})");
  ASSERT_EQ(frames.size(), 4u);
  EXPECT_EQ(frames[0].text, R"({"a":"}{\""})");
  EXPECT_EQ(frames[1].text, "[1,2]");
  EXPECT_EQ(frames[2].text, "3");
  EXPECT_EQ(frames[3].text, R"({"b":{}})");
}

TEST(JsonFramer, SingleQuotesHoldStringsToo) {
  auto frames = frames_of(R"({'a': '}"{'} '}')");
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(parse_json(frames[0].text).value(), Json({{"a", "}\"{"}}));
}

TEST(JsonFramer, ResumesAtTheNextLineAfterAnError) {
  auto frames = frames_of("}{\"lost\":1}\n{\"a\":1}");
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_TRUE(frames[0].error);
  EXPECT_EQ(frames[1].text, "{\"a\":1}");
}

TEST(JsonFramer, EndlessInputIsCutOff) {
  auto frames = frames_of("\"" + std::string(kJsonLimitBytes, 'x'));
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_TRUE(frames[0].error);
  EXPECT_TRUE(frames_of(std::string(kJsonLimitDepth + 1, '[')).at(0).error);
}

}  // namespace
}  // namespace atl::control
