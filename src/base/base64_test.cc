#include "base/base64.h"

#include <gtest/gtest.h>

namespace atl {
namespace {

TEST(Base64, EncodesWithPadding) {
  EXPECT_EQ(encode_base64(""), "");
  EXPECT_EQ(encode_base64("f"), "Zg==");
  EXPECT_EQ(encode_base64("fo"), "Zm8=");
  EXPECT_EQ(encode_base64("foobar"), "Zm9vYmFy");
}

TEST(Base64, DecodesWhatWasEncoded) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  EXPECT_EQ(decode_base64(encode_base64(bytes)), bytes);
}

TEST(Base64, SkipsWhiteSpace) { EXPECT_EQ(decode_base64(" Zm9v\n\tYmFy\r\n"), "foobar"); }

TEST(Base64, RefusesWhatIsNone) {
  for (const char* text : {"Zm9", "Zm9v!", "Z", "====", "Zg==Zg=="}) EXPECT_EQ(decode_base64(text), std::nullopt) << text;
}

}  // namespace
}  // namespace atl
