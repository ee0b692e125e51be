#include "block/format/qcow2.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "block/format/qcow2_alloc.h"
#include "block/test_support.h"

namespace atl::block {
namespace {

using namespace qcow2;

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }

/// A node that the test still sees after handing it over.
class Borrowed final : public Node {
 public:
  explicit Borrowed(Node& node) : node_(node) {}
  NodeInfo info() const override { return node_.info(); }
  u64 size_bytes() const override { return node_.size_bytes(); }
  Task<Status> resize(u64 size, Preallocation how) override { return node_.resize(size, how); }
  Task<Status> read(u64 offset, std::span<const iovec> out) override { return node_.read(offset, out); }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    return node_.write(offset, data, flags);
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    return node_.write_zeroes(offset, size, flags);
  }
  Task<Status> discard(u64 offset, u64 size) override { return node_.discard(offset, size); }
  Task<Status> flush() override { return node_.flush(); }

 private:
  Node& node_;
};

struct Qcow2Test : testing::Test {
  std::unique_ptr<Loop> loop = make_loop();
  MemoryNode file;
  ErrorInjector injector{file};

  void create(Qcow2CreateOptions options) { ASSERT_TRUE(finish(*loop, create_qcow2(file, options))); }
  Result<std::unique_ptr<Node>> open(bool readonly = false, Node* backing = nullptr) {
    std::unique_ptr<Node> below = backing ? std::make_unique<Borrowed>(*backing) : nullptr;
    return finish(*loop,
                  open_qcow2_node(std::make_unique<Borrowed>(injector), std::move(below), {.readonly = readonly}));
  }
  Status write(Node& node, u64 offset, std::string bytes) {
    iovec v{bytes.data(), bytes.size()};
    return finish(*loop, node.write(offset, {&v, 1}, 0));
  }
  std::string read(Node& node, u64 offset, size_t size) {
    std::string bytes(size, '?');
    iovec v{bytes.data(), size};
    Status status = finish(*loop, node.read(offset, {&v, 1}));
    return status ? bytes : "error: " + status.error().text();
  }
  Qcow2Header header() { return MUST(finish(*loop, read_qcow2_header(file))); }

  /// Compares every refcount with the references that are really there. "" if they agree.
  std::string check_refcounts() {
    Qcow2Header h = header();
    const Geometry g = h.geometry;
    std::map<u64, u64> references;
    auto count = [&](u64 offset, u64 bytes) {
      for (u64 i = 0; i < g.clusters(bytes); ++i) ++references[(offset >> g.cluster_bits) + i];
    };
    auto entry = [&](u64 at) { return at + 8 <= file.bytes.size() ? load_be<u64>(&file.bytes[at]) : 0; };
    count(0, 1);
    count(h.l1_offset, std::max<u64>(1, 8 * u64{h.l1_entries}));
    count(h.refcount_table_offset, u64{h.refcount_table_clusters} << g.cluster_bits);
    for (u64 i = 0; i < u64{h.refcount_table_clusters} * g.l2_entries(); ++i)
      if (u64 block = entry(h.refcount_table_offset + 8 * i)) count(block, 1);
    for (u64 i = 0; i < h.l1_entries; ++i) {
      u64 l2 = entry(h.l1_offset + 8 * i) & kOffsetMask;
      if (!l2) continue;
      count(l2, 1);
      for (u64 j = 0; j < g.l2_entries(); ++j)
        if (u64 host = decode_l2(entry(l2 + 8 * j)).host) count(host, 1);
    }
    Qcow2Allocator allocator(file, h);
    MUST(finish(*loop, allocator.load()));
    std::string wrong;
    for (u64 cluster = 0; cluster < g.clusters(file.bytes.size()); ++cluster) {
      u64 stored = MUST(finish(*loop, allocator.refcount(cluster)));
      if (stored != references[cluster]) wrong += fmt::format("{}: {} not {}; ", cluster, stored, references[cluster]);
    }
    return wrong;
  }
};

TEST_F(Qcow2Test, NewImageReadsAsZeroesAndKnowsItsSize) {
  create({.size_bytes = 10 * kMiB});
  auto node = MUST(open());
  EXPECT_EQ(node->size_bytes(), 10 * kMiB);
  EXPECT_EQ(node->info().driver, "qcow2");
  EXPECT_EQ(read(*node, 10 * kMiB - 5, 5), std::string(5, '\0'));
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
  auto node = MUST(open(true));
  EXPECT_EQ(read(*node, 65529, 17), std::string("\0across clusters\0", 17));
  EXPECT_FALSE(write(*node, 0, "x"));
}

struct Shape {
  u32 version, cluster_bits, refcount_order;
  bool backing;
};
class Qcow2Shapes : public Qcow2Test, public testing::WithParamInterface<Shape> {};

/// Random operations against a plain copy of the disk, with reopening in between.
TEST_P(Qcow2Shapes, BehavesLikeAPlainDisk) {
  constexpr u64 kSize = 512 * kKiB;
  const Shape shape = GetParam();
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
          .backing_file = shape.backing ? "base" : ""});
  auto node = MUST(open(false, shape.backing ? &base : nullptr));
  for (int step = 0; step < 250; ++step) {
    u64 offset = random() % kSize, size = std::min<u64>(1 + random() % (random() % 8 ? 3000 : 200000), kSize - offset);
    switch (random() % 8) {
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
        ASSERT_TRUE(finish(*loop, node->flush()));
        ASSERT_EQ(check_refcounts(), "") << step;
        if (random() % 2) node = MUST(open(false, shape.backing ? &base : nullptr));
        break;
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

INSTANTIATE_TEST_SUITE_P(All, Qcow2Shapes,
                         testing::Values(Shape{3, 16, 4, false}, Shape{3, 16, 4, true}, Shape{2, 12, 4, false},
                                         Shape{2, 12, 4, true}, Shape{3, 9, 6, true}, Shape{3, 10, 0, false},
                                         Shape{3, 12, 2, true}, Shape{3, 14, 5, false}, Shape{3, 13, 3, true},
                                         Shape{3, 21, 1, false}),
                         [](auto& shape) {
                           return fmt::format("v{}_{}_{}_{}", shape.param.version, 1 << shape.param.cluster_bits,
                                              1 << shape.param.refcount_order,
                                              shape.param.backing ? "backing" : "alone");
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
  injector.next_errors = {ENOSPC};
  Status status = write(*node, 200000, "new");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().os_errno(), ENOSPC);
  ASSERT_TRUE(write(*node, 200000, "new"));
  ASSERT_TRUE(finish(*loop, node->flush()));
  EXPECT_EQ(check_refcounts(), "");
}

TEST_F(Qcow2Test, BackingNameAndFormatAreKept) {
  create({.size_bytes = kMiB, .backing_file = "base.raw", .backing_format = "raw"});
  EXPECT_EQ(header().backing_file, "base.raw");
  EXPECT_EQ(header().backing_format, "raw");
}

TEST_F(Qcow2Test, ImagesMarkedDirtyOrCorruptAreNotWritten) {
  create({.size_bytes = kMiB});
  for (char bit : {1, 2}) {
    file.bytes[79] = bit;
    EXPECT_FALSE(open());
    EXPECT_TRUE(open(true));
  }
}

TEST_F(Qcow2Test, ReservedFeaturesAreRefusedByName) {
  create({.size_bytes = kMiB});
  file.bytes[79] = 4;
  EXPECT_NE(open(true).error().text().find("external data file"), std::string::npos);
  file.bytes[79] = 16;
  EXPECT_NE(open(true).error().text().find("extended L2"), std::string::npos);
  file.bytes[79] = static_cast<char>(0x80);
  EXPECT_NE(open(true).error().text().find("unknown incompatible"), std::string::npos);
}

TEST_F(Qcow2Test, HeadersThatClaimAbsurdSizesAreRefused) {
  create({.size_bytes = kMiB});
  const std::string good = file.bytes;
  auto with = [&](size_t at, u64 value, int width) {
    file.bytes = good;
    for (int i = 0; i < width; ++i)
      file.bytes[at + static_cast<size_t>(i)] = static_cast<char>(value >> (8 * (width - 1 - i)));
    return open(true).has_value();
  };
  EXPECT_FALSE(with(0, 0, 4));   // magic
  EXPECT_FALSE(with(4, 4, 4));   // version
  EXPECT_FALSE(with(20, 8, 4));  // cluster size
  EXPECT_FALSE(with(20, 63, 4));
  EXPECT_FALSE(with(24, ~u64{0}, 8));     // disk size
  EXPECT_FALSE(with(32, 1, 4));           // encryption
  EXPECT_FALSE(with(36, 0x7fffffff, 4));  // L1 entries
  EXPECT_FALSE(with(40, 12345, 8));       // L1 alignment
  EXPECT_FALSE(with(40, ~u64{0} << 16, 8));
  EXPECT_FALSE(with(56, 0xffffffff, 4));  // refcount table
  EXPECT_FALSE(with(96, 7, 4));           // refcount width
  EXPECT_FALSE(with(8, 0xffffff00, 8));   // backing name
  EXPECT_TRUE(with(0, kMagic, 4));
  file.bytes = good.substr(0, 50);
  EXPECT_FALSE(open(true));
}

TEST_F(Qcow2Test, EntriesThatAreNotAlignedAreErrorsOfTheRequest) {
  create({.size_bytes = kMiB});
  u64 l1 = header().l1_offset;
  store_be<u64>(&file.bytes[l1], 0x12200 | kCopied);
  auto node = MUST(open());
  EXPECT_NE(read(*node, 0, 1).find("L2 table at 0x12200 is not aligned"), std::string::npos);
  EXPECT_EQ(write(*node, 0, "x").error().os_errno(), EIO);
}

}  // namespace
}  // namespace atl::block
