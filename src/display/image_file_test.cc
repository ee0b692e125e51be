#include "display/image_file.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <string>

#include "display/keys.h"

namespace atl::display {
namespace {

Surface two_pixels() {
  Surface surface(2, 1);
  surface.row(0)[0] = 0x112233;
  surface.row(0)[1] = 0xaabbcc;
  return surface;
}

TEST(ImageFile, PpmHoldsRedGreenBlueInOrder) {
  const std::vector<u8> file = to_ppm(two_pixels());
  EXPECT_EQ(std::string(file.begin(), file.end()), "P6\n2 1\n255\n\x11\x22\x33\xaa\xbb\xcc");
}

TEST(ImageFile, PngHasItsSizeAndPixels) {
  const std::vector<u8> file = to_png(two_pixels());
  ASSERT_GT(file.size(), 57u);
  EXPECT_EQ(file[19], 2);
  EXPECT_EQ(file[23], 1);
  const size_t data_bytes = file[36];
  std::vector<u8> raw(7);
  uLongf size = raw.size();
  ASSERT_EQ(::uncompress(raw.data(), &size, &file[41], data_bytes), Z_OK);
  EXPECT_EQ(raw, (std::vector<u8>{0, 0x11, 0x22, 0x33, 0xaa, 0xbb, 0xcc}));
}

TEST(Keys, NamesAndNumbersBelongTogether) {
  EXPECT_EQ(key_number("ret"), 0x1c);
  EXPECT_EQ(key_number("left"), 0xcb);
  EXPECT_EQ(key_number("nonsense"), std::nullopt);
  EXPECT_EQ(key_name(0x37), "kp_multiply");
  EXPECT_EQ(key_name(0xff), "");
}

}  // namespace
}  // namespace atl::display
