#include "display/edid.h"

#include <gtest/gtest.h>

#include <numeric>

namespace atl::display {
namespace {

TEST(Edid, TellsThePreferredSizeAndSumsToZero) {
  for (auto [width, height] : {std::pair{1280u, 800u}, {4095u, 4095u}, {640u, 480u}}) {
    const auto e = make_edid(width, height);
    EXPECT_EQ(std::accumulate(e.begin(), e.end(), 0u) % 256, 0u);
    EXPECT_EQ(e[56] | (e[58] >> 4) << 8, static_cast<int>(width));
    EXPECT_EQ(e[59] | (e[61] >> 4) << 8, static_cast<int>(height));
  }
}

TEST(Edid, AbsurdSizesAreClamped) {
  const auto e = make_edid(~0u, 0);
  EXPECT_EQ(e[56] | (e[58] >> 4) << 8, 4095);
  EXPECT_EQ(e[59] | (e[61] >> 4) << 8, 64);
}

}  // namespace
}  // namespace atl::display
