#include "net/tap_backend.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace atl::net {
namespace {

TEST(TapBackendTest, DescriptorThatIsNoTapIsNamed) {
  auto loop = std::move(*Loop::create());
  int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  auto tap = create_tap_backend(*loop, {.id = "t0", .fd = fd});
  ASSERT_FALSE(tap);
  EXPECT_NE(tap.error().text().find("tap network t0: "), std::string::npos);
  EXPECT_NE(tap.error().text().find("not a tap device"), std::string::npos);
}

TEST(TapBackendTest, NameThatIsTooLongIsRefused) {
  auto loop = std::move(*Loop::create());
  auto tap = create_tap_backend(*loop, {.ifname = "a-name-that-no-interface-can-have"});
  ASSERT_FALSE(tap);
  EXPECT_EQ(tap.error().kind(), ErrorKind::Invalid);
}

TEST(TapBackendTest, FramesCrossTheInterfaceBothWays) {
  auto loop = std::move(*Loop::create());
  auto tap = create_tap_backend(*loop, {.id = "t0"});
  if (!tap) GTEST_SKIP() << tap.error().text();
  struct Sink final : FrameSink {
    bool receive(std::span<const iovec>) override { return true; }
  } sink;
  (*tap)->set_sink(&sink);
  EXPECT_TRUE((*tap)->has_vnet_header());
  EXPECT_TRUE((*tap)->offloads().checksum);
  (*tap)->set_offloads({.checksum = true, .tso4 = true});
  u8 frame[kVnetHeaderBytes + 60] = {};
  iovec part{frame, sizeof frame};
  // An interface that is down refuses frames; either way the back end goes on.
  (void)(*tap)->send({&part, 1});
  loop->run_once(0);
  (*tap)->set_sink(nullptr);
}

}  // namespace
}  // namespace atl::net
