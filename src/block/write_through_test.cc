#include "block/write_through.h"

#include <gtest/gtest.h>

#include "block/filter_node.h"
#include "block/test_support.h"

namespace atl::block {
namespace {

/// Keeps the flags of writes, and counts flushes.
class Watcher final : public FilterNode {
 public:
  using FilterNode::FilterNode;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    seen |= flags;
    return file_->write(offset, data, flags);
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    seen |= flags;
    return file_->write_zeroes(offset, size, flags);
  }
  Task<Status> flush() override {
    ++flushes;
    return file_->flush();
  }
  u32 seen = 0;
  int flushes = 0;
};

class WriteThroughTest : public testing::Test {
 protected:
  static std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }
  std::unique_ptr<Loop> loop = make_loop();
  std::shared_ptr<Watcher> below = std::make_shared<Watcher>(make_null_node(*loop, {.size = 4096}));
  NodePtr node = make_write_through(below);
};

TEST_F(WriteThroughTest, WritesAreForcedToStableStorage) {
  char bytes[512] = {};
  iovec data{bytes, sizeof bytes};
  ASSERT_TRUE(finish(*loop, node->write(0, {&data, 1}, kNoFlags)));
  EXPECT_EQ(below->seen, u32{kFua});
  below->seen = 0;
  ASSERT_TRUE(finish(*loop, node->write_zeroes(0, 512, kMayUnmap)));
  EXPECT_EQ(below->seen, u32{kFua} | kMayUnmap);
}

TEST_F(WriteThroughTest, DiscardsAreFlushed) {
  ASSERT_TRUE(finish(*loop, node->discard(0, 512)));
  EXPECT_EQ(below->flushes, 1);
}

}  // namespace
}  // namespace atl::block
