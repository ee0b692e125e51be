#include "base/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace atl {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(Fd, ClosesWhenDestroyedAndNotAfterAMove) {
  int raw;
  {
    Fd a = MUST(make_eventfd());
    raw = a.get();
    Fd b = std::move(a);
    EXPECT_FALSE(a.valid());
    EXPECT_TRUE(is_open(raw));
  }
  EXPECT_FALSE(is_open(raw));
}

TEST(Fd, OpeningNamesThePathInItsError) {
  auto r = open_file("/nowhere/x", O_RDONLY);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().text(), "open /nowhere/x: No such file or directory");
}

TEST(Fd, EventfdCountsUntilDrained) {
  Fd event = MUST(make_eventfd());
  EXPECT_EQ(drain_eventfd(event), 0u);
  signal_eventfd(event);
  signal_eventfd(event);
  EXPECT_EQ(drain_eventfd(event), 2u);
  EXPECT_EQ(drain_eventfd(event), 0u);
}

TEST(Fd, ReadPastTheEndNamesTheOffset) {
  Fd file(::open("/tmp", O_TMPFILE | O_RDWR, 0600));
  u8 bytes[10] = {1, 2, 3};
  ASSERT_TRUE(write_all(file, std::span<const u8>(bytes).first(3)));
  EXPECT_TRUE(read_exact_at(file, std::span<u8>(bytes).first(2), 1));
  EXPECT_EQ(bytes[0], 2);
  auto status = read_exact_at(file, bytes, 0);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().text(), "the file ends at offset 3");
}

TEST(Fd, ReadFileRefusesMoreThanItsLimit) {
  EXPECT_FALSE(read_file("/proc/cpuinfo", 10));
  EXPECT_TRUE(read_file("/proc/cpuinfo", 16u << 20));
}

}  // namespace
}  // namespace atl
