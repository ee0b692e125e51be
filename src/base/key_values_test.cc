#include "base/key_values.h"

#include <gtest/gtest.h>

#include "base/strings.h"

namespace atl {
namespace {

KeyValues parse(std::string_view text, std::string_view implied = {}) { return MUST(KeyValues::parse(text, implied)); }

TEST(KeyValues, FirstPartWithoutEqualsIsTheImpliedKey) {
  auto list = parse("virtio-blk-pci,drive=d0", "driver");
  EXPECT_EQ(list.get("driver"), "virtio-blk-pci");
  EXPECT_EQ(list.get("drive"), "d0");
}

TEST(KeyValues, DoubledCommaIsOneCommaInTheValue) {
  auto list = parse("file=a,,b,,,format=raw");
  EXPECT_EQ(list.get("file"), "a,b,");
  EXPECT_EQ(list.get("format"), "raw");
  EXPECT_EQ(parse("a,,b,c=d", "x").get("x"), "a,b");
}

TEST(KeyValues, ValueMayHoldEqualsSigns) { EXPECT_EQ(parse("append=root=/dev/vda").get("append"), "root=/dev/vda"); }

TEST(KeyValues, LastOfSeveralValuesCountsAndAllAreKept) {
  auto list = parse("hostfwd=a,hostfwd=b");
  EXPECT_EQ(list.get("hostfwd"), "b");
  EXPECT_EQ(list.take_all("hostfwd"), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(list.empty());
}

TEST(KeyValues, BareKeyIsOnAndNoPrefixIsOff) {
  auto list = parse("socket,server,nowait", "backend");
  EXPECT_TRUE(MUST(list.take_bool("server", false)));
  EXPECT_FALSE(MUST(list.take_bool("wait", true)));
  EXPECT_EQ(list.take("backend"), "socket");
  EXPECT_TRUE(list.expect_empty());
}

TEST(KeyValues, LeftOverKeyIsRefusedByName) {
  auto list = parse("size=1G,colour=red");
  EXPECT_EQ(MUST(list.take_size("size", 0)), kGiB);
  EXPECT_EQ(list.expect_empty().error().text(), "Invalid parameter 'colour'");
}

TEST(KeyValues, BadValuesNameKeyAndValue) {
  auto list = parse("a=x,b=maybe,c=12,d=up");
  EXPECT_EQ(list.take_u64("a", 0).error().text(), "Parameter 'a' expects a number, not 'x'");
  EXPECT_EQ(list.take_bool("b", false).error().text(), "Parameter 'b' expects 'on' or 'off', not 'maybe'");
  EXPECT_EQ(list.take_u64("c", 0, 10).error().text(), "Parameter 'c' expects a number up to 10, not '12'");
  std::string_view choices[] = {"left", "right"};
  EXPECT_EQ(list.take_choice("d", choices, 0).error().text(), "Parameter 'd' expects one of left, right, not 'up'");
}

TEST(KeyValues, MissingKeysGiveTheirFallback) {
  KeyValues list;
  EXPECT_EQ(MUST(list.take_u64("n", 7)), 7u);
  EXPECT_EQ(list.take_required("id").error().text(), "Parameter 'id' is missing");
}

TEST(KeyValues, PrefixedKeysMoveIntoAListOfTheirOwn) {
  auto list = parse("driver=raw,file.driver=file,file.filename=/x");
  auto file = list.take_prefix("file.");
  EXPECT_EQ(file.get("filename"), "/x");
  EXPECT_EQ(list.entries().size(), 1u);
}

TEST(KeyValues, KeyWithoutNameIsAnError) {
  EXPECT_FALSE(KeyValues::parse("=x"));
  EXPECT_FALSE(KeyValues::parse("a=b,=c"));
  EXPECT_TRUE(KeyValues::parse("a=b,"));
}

TEST(KeyValues, HelpIsSeenInEitherPlace) {
  EXPECT_TRUE(parse("help", "driver").asks_help());
  EXPECT_TRUE(parse("e1000,help", "driver").asks_help());
  EXPECT_TRUE(parse("?", "driver").asks_help());
  EXPECT_FALSE(parse("e1000,id=help", "driver").asks_help());
}

TEST(Strings, SizesTakeSuffixesAndFractions) {
  EXPECT_EQ(parse_size("512", 'M'), 512 * kMiB);
  EXPECT_EQ(parse_size("1.5G"), kGiB + kGiB / 2);
  EXPECT_EQ(parse_size("4t"), 4096 * kGiB);
  EXPECT_EQ(parse_size("0x1000"), 4096u);
  EXPECT_EQ(parse_size("16E"), std::nullopt);
  EXPECT_EQ(parse_size("15E"), 15ull << 60);
  for (std::string_view bad : {"", "G", "1Q", "-1", "1.", ".5", "1 G", "1.x", "99999999999999999999"})
    EXPECT_EQ(parse_size(bad), std::nullopt) << bad;
}

TEST(Strings, NumbersAreWholeTexts) {
  EXPECT_EQ(parse_u64("0x10"), 16u);
  EXPECT_EQ(parse_u64("18446744073709551615"), ~u64{0});
  EXPECT_EQ(parse_i64("-9223372036854775808"), INT64_MIN);
  EXPECT_EQ(parse_i64("9223372036854775808"), std::nullopt);
  for (std::string_view bad : {"", "x", "1x", " 1", "+1", "-1", "0x", "18446744073709551616"})
    EXPECT_EQ(parse_u64(bad), std::nullopt) << bad;
}

TEST(Strings, SplitKeepsEmptyParts) {
  EXPECT_EQ(split("a::b", ':'), (std::vector<std::string_view>{"a", "", "b"}));
  EXPECT_EQ(split("", ':').size(), 1u);
  EXPECT_EQ(trim("  a b \n"), "a b");
  EXPECT_TRUE(iequals("ABc", "abC"));
  EXPECT_FALSE(iequals("abc", "ab"));
}

}  // namespace
}  // namespace atl
