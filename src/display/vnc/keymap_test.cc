#include "display/vnc/keymap.h"

#include <gtest/gtest.h>

#include "display/keys.h"

namespace atl::display::vnc {
namespace {

TEST(KeyMap, LayoutsDiffer) {
  auto us = KeyMap::load("en-us"), de = KeyMap::load("de");
  ASSERT_TRUE(us && de);
  EXPECT_EQ((*us)->find('z')->number, key_number("z"));
  EXPECT_EQ((*de)->find('z')->number, key_number("y"));
  EXPECT_EQ((*de)->find(0xf6)->number, key_number("semicolon"));  // o with two dots
  EXPECT_FALSE((*us)->find(0xf6));
  EXPECT_TRUE((*de)->find('!')->shift);
  EXPECT_FALSE((*de)->find('1')->shift);
  EXPECT_EQ((*de)->find(0xff0d)->number, key_number("ret"));
}

TEST(KeyMap, UnknownLayoutIsNamed) {
  auto map = KeyMap::load("klingon");
  ASSERT_FALSE(map);
  EXPECT_NE(map.error().text().find("klingon"), std::string::npos);
}

TEST(KeyMap, LinuxCodesAndNumbersAreOfTheSameKeys) {
  for (u32 number = 1; number < 256; ++number) {
    const u16 code = linux_code_of_key(static_cast<u8>(number));
    if (code && number != 0x54) {
      EXPECT_EQ(key_of_linux_code(code), number);
    }
  }
  EXPECT_EQ(linux_code_of_key(*key_number("up")), 103);
}

}  // namespace
}  // namespace atl::display::vnc
