#include "control/hmp/line_editor.h"

#include <gtest/gtest.h>

namespace atl::control {
namespace {

class LineEditorTest : public testing::Test {
 protected:
  std::vector<std::string> type(std::string_view text) {
    std::vector<std::string> lines;
    for (char c : text)
      if (auto line = editor.feed(static_cast<u8>(c), echo)) lines.push_back(*line);
    return lines;
  }
  std::string echo;
  LineEditor editor{"> ", [](std::string_view) { return std::vector<std::string>{"status", "stop"}; }};
};

TEST_F(LineEditorTest, TypedTextIsEchoed) {
  EXPECT_EQ(type("abc\r"), std::vector<std::string>{"abc"});
  EXPECT_EQ(echo, "abc\r\n");
}

TEST_F(LineEditorTest, EditingKeysMoveAndErase) {
  EXPECT_EQ(type("bd\x02" "c\x01" "a\x05" "ef\x7f\n"), std::vector<std::string>{"abcde"});
  EXPECT_EQ(type("one two\x17three\n"), std::vector<std::string>{"one three"});
  EXPECT_EQ(type("xyz\x1b[D\x1b[D\x1b[3~\n"), std::vector<std::string>{"xz"});
}

TEST_F(LineEditorTest, HistoryComesBack) {
  type("first\nsecond\n");
  EXPECT_EQ(type("\x1b[A\x1b[A\n"), std::vector<std::string>{"first"});
}

TEST_F(LineEditorTest, CompletionStopsWhereNamesDiffer) {
  EXPECT_EQ(type("s\t\n"), std::vector<std::string>{"st"});
}

TEST_F(LineEditorTest, EndlessLinesAreBounded) {
  auto lines = type(std::string(100000, 'x') + "\n");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_LE(lines[0].size(), 4096u);
}

}  // namespace
}  // namespace atl::control
