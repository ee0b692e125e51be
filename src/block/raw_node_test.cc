#include <gtest/gtest.h>

#include "block/test_support.h"

namespace atl::block {
namespace {

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }

struct RawNodeTest : testing::Test {
  std::unique_ptr<Loop> loop = make_loop();
  TempFile file{8192};

  Result<std::unique_ptr<Node>> open(const RawOptions& options) {
    return open_raw_node(TRY(open_file_node(*loop, {.filename = file.path(), .discard = true})), options);
  }
  Status write(Node& node, u64 offset, std::string text) {
    iovec v{text.data(), text.size()};
    return finish(*loop, node.write(offset, {&v, 1}, 0));
  }
};

TEST_F(RawNodeTest, WindowShiftsOffsetsAndHidesTheRest) {
  auto node = MUST(open({.offset = 1024, .size = 2048}));
  EXPECT_EQ(node->size_bytes(), 2048u);
  EXPECT_EQ(node->info().driver, "raw");
  ASSERT_TRUE(write(*node, 0, "start"));
  EXPECT_EQ(file.text(1024, 5), "start");
  EXPECT_FALSE(write(*node, 2046, "abc"));
  EXPECT_EQ(file.text(3070, 3), std::string(3, '\0'));
  EXPECT_FALSE(finish(*loop, node->write_zeroes(0, 2049, 0)));
}

TEST_F(RawNodeTest, WindowThatExceedsTheFileIsRefused) {
  EXPECT_FALSE(open({.offset = 8704}));
  EXPECT_FALSE(open({.offset = 512, .size = 8192}));
  EXPECT_FALSE(open({.offset = ~u64{0} & ~u64{511}, .size = 1024}));
  EXPECT_FALSE(open({.offset = 100}));
  EXPECT_TRUE(open({.offset = 8192}));
}

TEST_F(RawNodeTest, ReadOnlyNodeRefusesWrites) {
  auto node = MUST(open({.readonly = true}));
  EXPECT_EQ(write(*node, 0, "x").error().os_errno(), EPERM);
}

TEST_F(RawNodeTest, NullNodeReadsZeroesAndTakesAnything) {
  auto node = make_null_node(*loop, {.size = 4096, .latency_ns = 1000});
  EXPECT_TRUE(write(*node, 0, "x"));
  std::string text(10, '?');
  iovec v{text.data(), text.size()};
  EXPECT_TRUE(finish(*loop, node->read(4086, {&v, 1})));
  EXPECT_EQ(text, std::string(10, '\0'));
  EXPECT_FALSE(write(*node, 4096, "x"));
}

TEST(Iovecs, ZeroTestSeesEveryByte) {
  for (size_t size : {1, 15, 16, 17, 100, 4096}) {
    std::string bytes(size, '\0');
    iovec v{bytes.data(), size};
    EXPECT_TRUE(iovec_is_zero({&v, 1}));
    for (size_t at = 0; at < size; at += 7) {
      bytes[at] = 1;
      EXPECT_FALSE(iovec_is_zero({&v, 1})) << size << " " << at;
      bytes[at] = 0;
    }
  }
}

TEST(Iovecs, SliceCutsBothEnds) {
  char a[4], b[4];
  iovec list[] = {{a, 4}, {b, 4}};
  auto slice = iovec_slice(list, 3, 3);
  ASSERT_EQ(slice.size(), 2u);
  EXPECT_EQ(slice[0].iov_base, a + 3);
  EXPECT_EQ(slice[1].iov_len, 2u);
  EXPECT_EQ(iovec_bytes(iovec_zeroes(100'000)), 100'000u);
  EXPECT_EQ(iovec_bytes(iovec_zeroes(~u64{0})), kMaxZeroes);
}

}  // namespace
}  // namespace atl::block
