#include "devices/virtio/queue.h"

#include <gtest/gtest.h>

#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

using namespace virtio;

struct RecordingOwner final : QueueOwner {
  void queue_interrupt(u16) override { ++interrupts; }
  void queue_malformed(u16, const char* reason) override { why = reason; }
  void queue_idle(u16) override { ++idles; }
  int interrupts = 0, idles = 0;
  std::string why;
};

/// Every case runs on both ring layouts, with and without event index.
class QueueTest : public testing::TestWithParam<u64> {
 protected:
  static constexpr u16 kSize = 8;
  QueueTest() { EXPECT_TRUE(queue_.start(driver_.layout(), features_, guest_.space().guest_memory())); }
  bool packed() const { return features_ & kFeaturePacked; }

  const u64 features_ = GetParam() | kFeatureVersion1 | kFeatureIndirect;
  TestGuest guest_;
  RecordingOwner owner_;
  TestQueue driver_{guest_, kSize, features_};
  Queue queue_{owner_, 0, 256, Fd()};
  GuestAddr in_ = guest_.allocate(4096), out_ = guest_.allocate(4096);
};

TEST_P(QueueTest, RequestTravelsThereAndBack) {
  std::memcpy(guest_.at(in_), "question", 8);
  u16 id = driver_.add({{in_, 8, false}, {out_, 6, true}});
  auto chain = queue_.pop();
  ASSERT_TRUE(chain);
  EXPECT_EQ(chain->readable_bytes(), 8u);
  EXPECT_EQ(chain->writable_bytes(), 6u);
  char text[8];
  ASSERT_TRUE(chain->read_object(0, text));
  EXPECT_EQ(std::string_view(text, 8), "question");
  EXPECT_EQ(chain->write(0, {reinterpret_cast<const u8*>("answers"), 7}), 6u);
  chain->add_written(7);
  chain->complete();
  auto used = driver_.take_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->id, id);
  EXPECT_EQ(used->written, 6u);
  EXPECT_EQ(guest_.text(out_, 6), "answer");
  EXPECT_FALSE(queue_.pop());
}

TEST_P(QueueTest, ManyLapsOfMixedLengthsKeepTheirOrder) {
  for (u32 i = 0; i < 1000; ++i) {
    std::vector<TestBuffer> buffers;
    for (u32 part = 0; part <= i % 3; ++part) buffers.push_back({in_ + 16 * part, 16, false});
    u16 id = driver_.add(buffers, i % 5 == 0);
    auto chain = queue_.pop();
    ASSERT_TRUE(chain) << i << owner_.why;
    ASSERT_EQ(chain->readable_bytes(), 16 * (i % 3 + 1));
    chain->complete();
    auto used = driver_.take_used();
    ASSERT_TRUE(used) << i;
    ASSERT_EQ(used->id, id);
  }
}

TEST_P(QueueTest, CompletionMayComeInAnyOrder) {
  u16 first = driver_.add({{out_, 16, true}});
  u16 second = driver_.add({{out_, 16, true}});
  auto a = queue_.pop(), b = queue_.pop();
  b->complete();
  a->complete();
  EXPECT_EQ(driver_.take_used()->id, second);
  EXPECT_EQ(driver_.take_used()->id, first);
  EXPECT_EQ(owner_.idles, 1);
}

TEST_P(QueueTest, KicksAreOffWhileThereIsWorkAndOnWhenEmpty) {
  EXPECT_FALSE(queue_.pop());
  driver_.add({{in_, 1, false}});
  EXPECT_TRUE(driver_.kick_needed());
  driver_.add({{in_, 1, false}});
  queue_.pop();
  driver_.add({{in_, 1, false}});
  EXPECT_FALSE(driver_.kick_needed());
  while (queue_.pop()) continue;
  driver_.add({{in_, 1, false}});
  EXPECT_TRUE(driver_.kick_needed());
}

TEST_P(QueueTest, OneInterruptForABatchAndNoneWhenNotWanted) {
  driver_.want_interrupts(true);
  for (int i = 0; i < 4; ++i) driver_.add({{in_, 1, false}});
  while (queue_.pop()) continue;
  queue_.notify();
  queue_.notify();
  EXPECT_EQ(owner_.interrupts, 1);
  while (driver_.take_used()) continue;
  driver_.want_interrupts(false);
  driver_.add({{in_, 1, false}});
  while (queue_.pop()) continue;
  queue_.notify();
  EXPECT_EQ(owner_.interrupts, 1);
}

TEST_P(QueueTest, InterruptsArriveOverManyLaps) {
  for (int i = 1; i <= 100; ++i) {
    driver_.want_interrupts(true);
    driver_.add({{in_, 1, false}, {in_, 1, false}, {in_, 1, false}});
    while (queue_.pop()) continue;
    queue_.notify();
    ASSERT_EQ(owner_.interrupts, i);
    while (driver_.take_used()) continue;
  }
}

TEST_P(QueueTest, ChainThatIsPutBackComesAgain) {
  for (int i = 0; i < 20; ++i) {
    u16 id = driver_.add({{out_, 8, true}, {out_, 8, true}, {out_, 8, true}});
    queue_.put_back(*queue_.pop());
    EXPECT_FALSE(driver_.take_used());
    auto again = queue_.pop();
    ASSERT_TRUE(again);
    again->complete();
    ASSERT_EQ(driver_.take_used()->id, id);
  }
}

TEST_P(QueueTest, BudgetEndsATurn) {
  for (int i = 0; i < 4; ++i) driver_.add({{in_, 1, false}});
  queue_.set_budget(3);
  int popped = 0;
  while (queue_.pop()) ++popped;
  EXPECT_EQ(popped, 3);
  EXPECT_TRUE(queue_.budget_spent());
  queue_.set_budget(0);
  EXPECT_TRUE(queue_.pop());
}

TEST_P(QueueTest, BufferOutsideOfMemoryStopsTheQueue) {
  driver_.add({{guest_.size() - 8, 16, true}});
  EXPECT_FALSE(queue_.pop());
  EXPECT_FALSE(queue_.running());
  EXPECT_EQ(owner_.why, "buffer outside of memory");
  EXPECT_EQ(queue_.in_flight(), 0u);
}

TEST_P(QueueTest, ReadableAfterWritableStopsTheQueue) {
  driver_.add({{out_, 8, true}, {in_, 8, false}});
  EXPECT_FALSE(queue_.pop());
  EXPECT_EQ(owner_.why, "readable buffer after a writable one");
}

TEST_P(QueueTest, ChainLongerThanTheRingStopsTheQueue) {
  for (u32 i = 0; i < kSize; ++i) {
    store_le<u64>(guest_.at(driver_.layout().descriptors + 16 * i), in_);
    store_le<u32>(guest_.at(driver_.layout().descriptors + 16 * i + 8), 1);
    if (packed()) {
      store_le<u16>(guest_.at(driver_.layout().descriptors + 16 * i + 14), kDescAvail | kDescNext);
    } else {
      store_le<u16>(guest_.at(driver_.layout().descriptors + 16 * i + 12), kDescNext);
      store_le<u16>(guest_.at(driver_.layout().descriptors + 16 * i + 14), static_cast<u16>((i + 1) % kSize));
    }
  }
  store_le<u16>(guest_.at(driver_.layout().driver + (packed() ? 0 : 2)), 1);
  EXPECT_FALSE(queue_.pop());
  EXPECT_EQ(owner_.why, "descriptor chain without an end");
}

TEST_P(QueueTest, IndirectTableInsideATableStopsTheQueue) {
  GuestAddr table = guest_.allocate(16);
  store_le<u64>(guest_.at(table), in_);
  store_le<u32>(guest_.at(table + 8), 16);
  store_le<u16>(guest_.at(table + 12), kDescIndirect);
  store_le<u16>(guest_.at(table + 14), packed() ? kDescIndirect : 0);
  u16 id = driver_.add({{table, 16, false}});
  (void)id;
  GuestAddr head = driver_.layout().descriptors;
  u16 flags_at = packed() ? 14 : 12;
  store_le<u16>(guest_.at(head + flags_at), static_cast<u16>(load_le<u16>(guest_.at(head + flags_at)) | kDescIndirect));
  auto chain = queue_.pop();
  EXPECT_EQ(chain.has_value(), packed());  // packed tables ignore the flag (2.8.7)
}

TEST_P(QueueTest, LayoutsThatCannotBeAreRefused) {
  QueueLayout good = driver_.layout();
  auto refused = [&](QueueLayout layout) {
    Queue queue(owner_, 0, 256, Fd());
    return !queue.start(layout, features_, guest_.space().guest_memory());
  };
  EXPECT_FALSE(refused(good));
  QueueLayout odd = good, high = good, empty = good, big = good;
  odd.device += 1;
  high.descriptors = u64{1} << 50;
  empty.size = 0;
  big.size = 512;
  EXPECT_TRUE(refused(odd));
  EXPECT_TRUE(refused(high));
  EXPECT_TRUE(refused(empty));
  EXPECT_TRUE(refused(big));
}

TEST_P(QueueTest, PositionsAreSavedAndRestored) {
  for (int i = 0; i < 5; ++i) {
    driver_.add({{in_, 1, false}, {in_, 1, false}});
    queue_.pop();
    driver_.take_used();
  }
  Archive out;
  queue_.visit(out);
  auto saved = out.take();
  Queue other(owner_, 0, 256, Fd());
  ASSERT_TRUE(other.start(driver_.layout(), features_, guest_.space().guest_memory()));
  Archive in{std::span<const u8>(saved)};
  other.visit(in);
  EXPECT_TRUE(in.status());
  u16 id = driver_.add({{in_, 1, false}});
  ASSERT_TRUE(other.pop());
  EXPECT_EQ(driver_.take_used()->id, id);
}

std::string layout_name(const testing::TestParamInfo<u64>& param) {
  return std::string(param.param & kFeaturePacked ? "Packed" : "Split") + (param.param & kFeatureEventIdx ? "EventIdx" : "");
}

INSTANTIATE_TEST_SUITE_P(Rings, QueueTest,
                         testing::Values(0, kFeatureEventIdx, kFeaturePacked, kFeaturePacked | kFeatureEventIdx), layout_name);

class SplitQueueTest : public testing::Test {
 protected:
  TestGuest guest_;
  RecordingOwner owner_;
  TestQueue driver_{guest_, 8, kFeatureVersion1};
  Queue queue_{owner_, 0, 8, Fd()};
};

TEST_F(SplitQueueTest, AvailableIndexThatJumpsStopsTheQueue) {
  ASSERT_TRUE(queue_.start(driver_.layout(), kFeatureVersion1, guest_.space().guest_memory()));
  store_le<u16>(guest_.at(driver_.layout().driver + 2), 9);
  EXPECT_FALSE(queue_.pop());
  EXPECT_EQ(owner_.why, "available index jumped");
}

TEST_F(SplitQueueTest, HeadPastTheTableStopsTheQueue) {
  ASSERT_TRUE(queue_.start(driver_.layout(), kFeatureVersion1, guest_.space().guest_memory()));
  store_le<u16>(guest_.at(driver_.layout().driver + 4), 8);
  store_le<u16>(guest_.at(driver_.layout().driver + 2), 1);
  EXPECT_FALSE(queue_.pop());
  EXPECT_EQ(owner_.why, "descriptor index past the table");
}

TEST_F(SplitQueueTest, IndirectWithoutTheFeatureStopsTheQueue) {
  ASSERT_TRUE(queue_.start(driver_.layout(), kFeatureVersion1, guest_.space().guest_memory()));
  driver_.add({{guest_.allocate(16), 16, false}}, true);
  EXPECT_FALSE(queue_.pop());
  EXPECT_EQ(owner_.why, "indirect descriptor without the feature");
}

}  // namespace
}  // namespace atl::devices
