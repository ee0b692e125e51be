#include "block/format/qcow2/qcow2.h"

#include "block/format/qcow2/test_support.h"

namespace atl::block {
namespace {

using namespace qcow2;

TEST_F(Qcow2Test, NewImageReadsAsZeroesAndKnowsItsSize) {
  create({.size_bytes = 10 * kMiB});
  auto node = MUST(open());
  EXPECT_EQ(node->size_bytes(), 10 * kMiB);
  EXPECT_EQ(node->info().driver, "qcow2");
  EXPECT_EQ(read(*node, 10 * kMiB - 5, 5), std::string(5, '\0'));
  EXPECT_EQ(check_refcounts(), "");
}

/// An L1 table of more clusters than a refcount block counts, and a refcount table that has to grow for it.
TEST_F(Qcow2Test, TablesMayBeLongerThanARefcountBlockReaches) {
  create({.size_bytes = kGiB, .cluster_bits = 9, .refcount_order = 6});
  EXPECT_EQ(check_refcounts(), "");
  create({.size_bytes = 6 * kMiB, .cluster_bits = 9, .refcount_order = 6, .preallocation = Preallocation::Metadata});
  EXPECT_EQ(check_refcounts(), "");
}

TEST_F(Qcow2Test, DataSurvivesReopening) {
  create({.size_bytes = 10 * kMiB});
  {
    auto node = MUST(open());
    ASSERT_TRUE(write(*node, 65530, "across clusters"));
    EXPECT_EQ(read(*node, 65529, 17), std::string("\0across clusters\0", 17));
    ASSERT_TRUE(finish(*loop, node->flush()));
  }
  EXPECT_EQ(check_refcounts(), "");
  auto node = MUST(open(readonly()));
  EXPECT_EQ(read(*node, 65529, 17), std::string("\0across clusters\0", 17));
  EXPECT_FALSE(write(*node, 0, "x"));
}

struct Shape {
  u32 version, cluster_bits, refcount_order;
  bool backing;
  bool extended = false, external = false, lazy = false;
  Preallocation preallocation = Preallocation::Off;
};
class Qcow2Shapes : public Qcow2Test, public testing::WithParamInterface<Shape> {};

/// Random operations against a plain copy of the disk, with reopening in between.
TEST_P(Qcow2Shapes, BehavesLikeAPlainDisk) {
  constexpr u64 kSize = 512 * kKiB;
  const Shape shape = GetParam();
  const u64 cluster = u64{1} << shape.cluster_bits;
  MemoryNode base;
  std::mt19937 random(7);
  std::string model(kSize, '\0');
  if (shape.backing) {
    for (char& c : base.bytes.assign(kSize / 2 + 512, 'b')) c = static_cast<char>(random());
    model.replace(0, base.bytes.size(), base.bytes);
  }
  create({.size_bytes = kSize,
          .version = shape.version,
          .cluster_bits = shape.cluster_bits,
          .refcount_order = shape.refcount_order,
          .lazy_refcounts = shape.lazy,
          .extended_l2 = shape.extended,
          .preallocation = shape.preallocation,
          .backing_file = shape.backing ? "base" : "",
          .data_file = shape.external ? "data" : ""});
  auto node = MUST(open({}, shape.backing ? &base : nullptr));
  for (int step = 0; step < 300; ++step) {
    u64 offset = random() % kSize, size = std::min<u64>(1 + random() % (random() % 8 ? 3000 : 200000), kSize - offset);
    switch (random() % 10) {
      case 0: {
        u32 flags = random() % 2 ? u32{kMayUnmap} : 0;
        ASSERT_TRUE(finish(*loop, node->write_zeroes(offset, size, flags)));
        model.replace(offset, size, size, '\0');
        break;
      }
      case 1: {
        ASSERT_TRUE(finish(*loop, node->discard(offset, size)));
        // Discarded bytes are either gone or as they were.
        std::string now = read(*node, 0, kSize);
        for (u64 i = 0; i < kSize; ++i)
          ASSERT_TRUE(now[i] == model[i] || (now[i] == 0 && i >= offset && i < offset + size)) << i;
        model = now;
        break;
      }
      case 2:
        ASSERT_TRUE(finish(*loop, node->close()));
        ASSERT_EQ(check_refcounts(), "") << step;
        if (random() % 2) node = MUST(open({}, shape.backing ? &base : nullptr));
        break;
      case 3: {
        if (shape.external) break;
        offset = align_down(offset, cluster);
        size = std::min(std::max(align_down(size, cluster), cluster), kSize - offset);
        std::string bytes(size, static_cast<char>(random()));
        if (random() % 4 == 0) for (char& c : bytes) c = static_cast<char>(random());
        ASSERT_TRUE(write_compressed(*node, offset, bytes));
        model.replace(offset, size, bytes);
        break;
      }
      default: {
        std::string bytes(size, static_cast<char>(random()));
        ASSERT_TRUE(write(*node, offset, bytes));
        model.replace(offset, size, bytes);
      }
    }
    offset = random() % kSize;
    size = std::min<u64>(random() % 20000, kSize - offset);
    ASSERT_TRUE(read(*node, offset, size) == model.substr(offset, size)) << step;
  }
  EXPECT_TRUE(read(*node, 0, kSize) == model);
}

INSTANTIATE_TEST_SUITE_P(
    All, Qcow2Shapes,
    testing::Values(Shape{3, 16, 4, false}, Shape{3, 16, 4, true}, Shape{2, 12, 4, false}, Shape{2, 12, 4, true},
                    Shape{3, 9, 6, true}, Shape{3, 10, 0, false}, Shape{3, 12, 2, true}, Shape{3, 14, 5, false},
                    Shape{3, 13, 3, true}, Shape{3, 21, 1, false}, Shape{3, 14, 4, false, true},
                    Shape{3, 16, 4, true, true}, Shape{3, 12, 4, false, false, true}, Shape{3, 14, 4, true, true, true},
                    Shape{3, 12, 4, true, false, false, true},
                    Shape{3, 12, 4, false, false, false, false, Preallocation::Metadata},
                    Shape{3, 14, 4, true, true, false, false, Preallocation::Full},
                    Shape{2, 16, 4, false, false, false, false, Preallocation::Falloc}),
    [](auto& shape) {
      const Shape& s = shape.param;
      return fmt::format("v{}_{}_{}_{}{}{}{}{}", s.version, 1 << s.cluster_bits, 1 << s.refcount_order,
                         s.backing ? "backing" : "alone", s.extended ? "_extended" : "", s.external ? "_external" : "",
                         s.lazy ? "_lazy" : "", s.preallocation != Preallocation::Off ? "_preallocated" : "");
    });

TEST_F(Qcow2Test, RefcountTableMovesWhenItIsFull) {
  create({.size_bytes = 32 * kMiB, .cluster_bits = 9, .refcount_order = 6});
  const u64 before = header().refcount_table_offset;
  auto node = MUST(open());
  for (u64 at = 0; at < 32 * kMiB; at += kMiB)
    ASSERT_TRUE(write(*node, at, std::string(kMiB, static_cast<char>('a' + at / kMiB))));
  ASSERT_TRUE(finish(*loop, node->flush()));
  EXPECT_NE(header().refcount_table_offset, before);
  EXPECT_EQ(check_refcounts(), "");
  node = MUST(open());
  for (u64 at = 0; at < 32 * kMiB; at += kMiB)
    ASSERT_EQ(read(*node, at + 777, 1)[0], static_cast<char>('a' + at / kMiB));
}

TEST_F(Qcow2Test, ConcurrentWritesToOneClusterAllArrive) {
  create({.size_bytes = kMiB});
  auto node = MUST(open());
  std::vector<std::string> texts;
  std::vector<iovec> vectors;
  for (int i = 0; i < 100; ++i) texts.push_back(std::string(1000, static_cast<char>('a' + i % 26)));
  for (auto& text : texts) vectors.push_back({text.data(), text.size()});
  int done = 0;
  for (size_t i = 0; i < texts.size(); ++i)
    start(node->write(1000 * i, {&vectors[i], 1}, 0), [&](Status s) { done += s.has_value(); });
  while (done < 100) loop->run_once(1'000'000);
  for (size_t i = 0; i < texts.size(); ++i) ASSERT_EQ(read(*node, 1000 * i, 1000), texts[i]);
}

TEST_F(Qcow2Test, FailedWriteKeepsItsErrnoAndLeavesTheImageWhole) {
  create({.size_bytes = kMiB});
  auto node = MUST(open());
  ASSERT_TRUE(write(*node, 0, "old"));
  injector.next_errors = {0, ENOSPC};  // resize does not count; a read of nothing, the write
  Status status = write(*node, 200000, "new");
  if (status) status = write(*node, 400000, "new");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().os_errno(), ENOSPC);
  injector.next_errors.clear();
  ASSERT_TRUE(write(*node, 200000, "new"));
  ASSERT_TRUE(finish(*loop, node->flush()));
  EXPECT_EQ(check_refcounts(), "");
}

TEST_F(Qcow2Test, BackingNameAndFormatAreKept) {
  create({.size_bytes = kMiB, .backing_file = "base.raw", .backing_format = "raw"});
  EXPECT_EQ(header().backing_file, "base.raw");
  EXPECT_EQ(header().backing_format, "raw");
}

TEST_F(Qcow2Test, ImageMarkedCorruptIsNotWritten) {
  create({.size_bytes = kMiB});
  file.bytes[79] = 2;
  EXPECT_FALSE(open());
  EXPECT_TRUE(open(readonly()));
}

TEST_F(Qcow2Test, UnknownFeaturesAreRefusedByTheNameThatTheHeaderGives) {
  create({.size_bytes = kMiB});
  file.bytes[79] = static_cast<char>(0x80);
  EXPECT_NE(open(readonly()).error().text().find("Unknown incompatible feature: 80"), std::string::npos);
}

TEST_F(Qcow2Test, HeadersThatClaimAbsurdSizesAreRefused) {
  create({.size_bytes = kMiB});
  const std::string good = file.bytes;
  auto with = [&](size_t at, u64 value, int width) {
    file.bytes = good;
    for (int i = 0; i < width; ++i)
      file.bytes[at + static_cast<size_t>(i)] = static_cast<char>(value >> (8 * (width - 1 - i)));
    return open(readonly()).has_value();
  };
  EXPECT_FALSE(with(0, 0, 4));   // magic
  EXPECT_FALSE(with(4, 4, 4));   // version
  EXPECT_FALSE(with(20, 8, 4));  // cluster size
  EXPECT_FALSE(with(20, 63, 4));
  EXPECT_FALSE(with(24, ~u64{0}, 8));     // disk size
  EXPECT_FALSE(with(32, 3, 4));           // encryption
  EXPECT_FALSE(with(36, 0x7fffffff, 4));  // L1 entries
  EXPECT_FALSE(with(40, 12345, 8));       // L1 alignment
  EXPECT_FALSE(with(40, ~u64{0} << 16, 8));
  EXPECT_FALSE(with(56, 0xffffffff, 4));  // refcount table
  EXPECT_FALSE(with(60, 65537, 4));       // snapshots
  EXPECT_FALSE(with(96, 7, 4));           // refcount width
  EXPECT_FALSE(with(104, 1, 1));          // compression type without its feature bit
  EXPECT_FALSE(with(8, 0xffffff00, 8));   // backing name
  EXPECT_TRUE(with(0, kMagic, 4));
  file.bytes = good.substr(0, 50);
  EXPECT_FALSE(open(readonly()));
}

TEST_F(Qcow2Test, EntriesThatAreNotAlignedAreErrorsOfTheRequest) {
  create({.size_bytes = kMiB});
  put_word(header().l1_offset, 0x12200 | kCopied);
  auto node = MUST(open());
  EXPECT_NE(read(*node, 0, 1).find("L2 table offset 0x12200 is not aligned"), std::string::npos);
  EXPECT_EQ(write(*node, 0, "x").error().os_errno(), EIO);
}

TEST_F(Qcow2Test, DataThatWouldGoOverMetadataMarksTheImageCorrupt) {
  create({.size_bytes = kMiB});
  auto node = MUST(open());
  ASSERT_TRUE(write(*node, 0, "x"));
  ASSERT_TRUE(finish(*loop, node->close()));
  u64 l2 = word(header().l1_offset) & kOffsetMask;
  put_word(l2, header().l1_offset | kCopied);
  node = MUST(open());
  Status status = write(*node, 0, "boom");
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().text().find("image marked as corrupt"), std::string::npos);
  EXPECT_TRUE(header().incompatible & kCorrupt);
  EXPECT_FALSE(write(*node, 500000, "later"));
}

TEST_F(Qcow2Test, SizeChangesBothWays) {
  create({.size_bytes = kMiB, .cluster_bits = 12});
  auto node = MUST(open());
  ASSERT_TRUE(write(*node, 0, std::string(kMiB, 'a')));
  ASSERT_TRUE(finish(*loop, node->resize(300 * kKiB + 512, Preallocation::Off)));
  ASSERT_TRUE(finish(*loop, node->resize(40 * kMiB, Preallocation::Off)));
  EXPECT_EQ(read(*node, 300 * kKiB, 1024), std::string(512, 'a') + std::string(512, '\0'));
  ASSERT_TRUE(write(*node, 40 * kMiB - 3, "end"));
  ASSERT_TRUE(finish(*loop, node->close()));
  EXPECT_EQ(check_refcounts(), "");
  node = MUST(open());
  EXPECT_EQ(node->size_bytes(), 40 * kMiB);
  EXPECT_EQ(read(*node, 40 * kMiB - 4, 4), std::string("\0end", 4));
}

TEST_F(Qcow2Test, EmptiedImageShowsItsBackingFileAndIsSmall) {
  MemoryNode base(std::string(kMiB, 'b'));
  create({.size_bytes = kMiB, .backing_file = "base"});
  auto node = MUST(open({}, &base));
  ASSERT_TRUE(write(*node, 0, std::string(kMiB, 'a')));
  ASSERT_TRUE(finish(*loop, node->image()->make_empty()));
  ASSERT_TRUE(finish(*loop, node->close()));
  EXPECT_EQ(read(*node, 0, 5), "bbbbb");
  EXPECT_EQ(check_refcounts(), "");
  EXPECT_LT(file.bytes.size(), 400 * kKiB);
}

TEST_F(Qcow2Test, ColdReadCostsOneMoreReadThanRaw) {
  create({.size_bytes = kGiB});
  auto node = MUST(open());
  ASSERT_TRUE(write(*node, 700 * kMiB, std::string(4096, 'x')));
  ASSERT_TRUE(finish(*loop, node->close()));
  node = MUST(open(readonly()));
  int before = injector.requests;
  EXPECT_EQ(read(*node, 700 * kMiB, 4096), std::string(4096, 'x'));
  EXPECT_EQ(injector.requests - before, 2);
}

TEST_F(Qcow2Test, TableReadInARowIsReadOnce) {
  create({.size_bytes = 512 * kMiB});  // whose cache takes a quarter of its table at once
  {
    NodePtr node = MUST(open());
    ASSERT_TRUE(write(*node, 0, "first"));
    ASSERT_TRUE(write(*node, 100 * kMiB, "later"));
    ASSERT_TRUE(finish(*loop, node->close()));
  }
  NodePtr node = MUST(open(readonly()));
  int before = injector.requests;
  EXPECT_EQ(read(*node, 0, 5), "first");
  EXPECT_EQ(read(*node, 100 * kMiB, 5), "later");
  EXPECT_EQ(injector.requests - before, 3);
}

TEST_F(Qcow2Test, DamageFurtherOnInATableDoesNotMatterToItsBeginning) {
  create({.size_bytes = 512 * kMiB});
  {
    NodePtr node = MUST(open());
    ASSERT_TRUE(write(*node, 0, "first"));
    ASSERT_TRUE(finish(*loop, node->close()));
  }
  NodePtr node = MUST(open(readonly()));
  injector.next_errors = {EIO};   // the read of the whole table
  EXPECT_EQ(read(*node, 0, 5), "first");
}

TEST_F(Qcow2Test, DirtyMarkIsSetByLazyRefcountsAndGoesWithClosing) {
  create({.size_bytes = kMiB, .lazy_refcounts = true});
  auto node = MUST(open());
  ASSERT_TRUE(write(*node, 0, "x"));
  ASSERT_TRUE(finish(*loop, node->flush()));
  EXPECT_TRUE(header().incompatible & kDirty);
  ASSERT_TRUE(finish(*loop, node->close()));
  EXPECT_FALSE(header().incompatible & kDirty);
  EXPECT_EQ(check_refcounts(), "");
}

}  // namespace
}  // namespace atl::block
