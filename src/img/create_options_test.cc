#include "img/create_options.h"

#include <gmock/gmock.h>

namespace atl::img {
namespace {

CreateOptions table() {
  return CreateOptions({{"cluster_size", CreateOption::Size, "cluster size", "65536"},
                        {"size", CreateOption::Size, "disk size"},
                        {"lazy", CreateOption::Flag, "flag", "off"},
                        {"bits", CreateOption::Number, "width"},
                        {"file", CreateOption::Text, "a name"}});
}

TEST(CreateOptions, ValuesGetTheirOneSpelling) {
  CreateOptions options = table();
  ASSERT_TRUE(options.parse("size=1M,lazy=yes,bits=16"));
  EXPECT_EQ(options.get("size"), "1048576");
  EXPECT_EQ(options.get("lazy"), "on");
}

TEST(CreateOptions, TheLineHasFallbacksInTheTablesOrderAndDoublesCommas) {
  CreateOptions options = table();
  ASSERT_TRUE(options.parse("file=a,,b,size=512"));
  EXPECT_EQ(options.line(), " cluster_size=65536 size=512 lazy=off file=a,,b");
}

TEST(CreateOptions, WrongValuesAreRefusedByName) {
  CreateOptions options = table();
  EXPECT_EQ(options.parse("foo=1").error().text(), "Invalid parameter 'foo'");
  EXPECT_EQ(options.parse("lazy=a").error().text(), "Parameter 'lazy' expects 'on' or 'off'");
  EXPECT_EQ(options.parse("bits=a").error().text(), "Parameter 'bits' expects a number");
}

TEST(CreateOptions, HelpIsSortedAndAligned) {
  EXPECT_EQ(asks_option_help({"size=1,help"}).value(), true);
  EXPECT_EQ(asks_option_help({"file=help"}).value(), false);
  EXPECT_EQ(asks_option_help({"help", ",size=1"}).error().text(), "Invalid option list: ,size=1");
  EXPECT_EQ(option_help({{"size", CreateOption::Size, "b"}, {"lazy", CreateOption::Flag, "a"}}),
            "  lazy=<bool (on/off)>   - a\n  size=<size>            - b\n");
}

}  // namespace
}  // namespace atl::img
