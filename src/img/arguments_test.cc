#include "img/arguments.h"

#include <gmock/gmock.h>

namespace atl::img {
namespace {

using ::testing::ElementsAre;

constexpr OptionSpec kSpecs[] = {{'f', "", true}, {'q', ""}, {'U', "force-share"}, {0, "output", true}, {0, "object", true}};

Result<Arguments> parse(std::vector<std::string> words) { return Arguments::parse(words, kSpecs); }

TEST(Arguments, OptionsAndWordsMayMix) {
  auto parsed = parse({"a", "-f", "raw", "--output=json", "b", "-qU"});
  ASSERT_TRUE(parsed);
  EXPECT_THAT(parsed->words(), ElementsAre("a", "b"));
  EXPECT_EQ(parsed->value("f"), "raw");
  EXPECT_EQ(parsed->value("output"), "json");
  EXPECT_TRUE(parsed->has("q"));
  EXPECT_TRUE(parsed->has("force-share"));
}

TEST(Arguments, TheLastValueCountsAndAllAreKept) {
  auto parsed = parse({"--object", "a", "-f", "raw", "--object=b", "-f", "qcow2"});
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->value("f"), "qcow2");
  EXPECT_THAT(parsed->values("object"), ElementsAre("a", "b"));
}

TEST(Arguments, WhatFollowsTwoDashesIsAWord) {
  auto parsed = parse({"--", "-f"});
  ASSERT_TRUE(parsed);
  EXPECT_THAT(parsed->words(), ElementsAre("-f"));
}

TEST(Arguments, UnknownOptionsAreNamed) {
  EXPECT_EQ(parse({"--zz"}).error().text(), "unrecognized option '--zz'");
  EXPECT_EQ(parse({"-x"}).error().text(), "unrecognized option '-x'");
}

TEST(Arguments, MissingValuesAreNamed) {
  EXPECT_EQ(parse({"-f"}).error().text(), "missing argument for option '-f'");
  EXPECT_EQ(parse({"--output"}).error().text(), "missing argument for option '--output'");
}

}  // namespace
}  // namespace atl::img
