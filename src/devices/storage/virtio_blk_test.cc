#include "devices/storage/virtio_blk.h"

#include <gtest/gtest.h>

#include "block/test_support.h"
#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

using namespace virtio_blk;
using block::ErrorPolicy;

constexpr u64 kDiskBytes = kMiB;
constexpr u8 kUnset = 0xee;

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }
std::unique_ptr<block::Node> open_disk(Loop& loop, const block::TempFile& file) {
  return MUST(block::open_file_node(loop, {.filename = file.path(), .discard = true}));
}

struct VirtioBlkTest : testing::Test {
  std::unique_ptr<Loop> loop = make_loop();
  block::TempFile file{kDiskBytes};
  std::unique_ptr<block::Node> disk = open_disk(*loop, file);
  block::ErrorInjector node{*disk};
  TestGuest guest;
  std::vector<BlockError> errors;
  std::unique_ptr<VirtioBlk> blk;
  std::unique_ptr<TestDriver> driver;

  void build(VirtioBlkOptions options = {}, u64 features = 0) {
    driver.reset();
    options.on_error = [this](const BlockError& error) { errors.push_back(error); };
    ASSERT_TRUE(VirtioBlk::check(options));
    blk = std::make_unique<VirtioBlk>(options, node, *loop, guest.space());
    driver = std::make_unique<TestDriver>(guest, *blk);
    driver->start(features ? features : blk->features() & ~virtio::kFeaturePacked);
  }
  void SetUp() override { build(); }
  void TearDown() override { driver.reset(); }

  GuestAddr header(u32 type, u64 sector) {
    Header h{type, 0, sector};
    return guest.put({reinterpret_cast<u8*>(&h), sizeof h});
  }
  GuestAddr status_byte() {
    GuestAddr at = guest.allocate(1);
    *guest.at(at) = kUnset;
    return at;
  }
  GuestAddr text(std::string_view bytes) {
    return guest.put({reinterpret_cast<const u8*>(bytes.data()), bytes.size()});
  }

  /// Queues header, buffers and status; returns where the status will be.
  GuestAddr add(u32 type, u64 sector, std::vector<TestBuffer> buffers, u16 queue = 0) {
    GuestAddr status = status_byte();
    buffers.insert(buffers.begin(), {header(type, sector), sizeof(Header), false});
    buffers.push_back({status, 1, true});
    driver->queue(queue).add(buffers);
    return status;
  }
  u8 request(u32 type, u64 sector, std::vector<TestBuffer> buffers = {}, u16 queue = 0) {
    GuestAddr status = add(type, sector, std::move(buffers), queue);
    driver->kick(queue);
    EXPECT_TRUE(driver->wait_used(queue));
    return *guest.at(status);
  }
  u8 write(u64 sector, std::string_view bytes) {
    return request(kOut, sector, {{text(bytes), static_cast<u32>(bytes.size())}});
  }
  u8 segment(u32 type, const Segment& s) {
    GuestAddr at = guest.put({reinterpret_cast<const u8*>(&s), sizeof s});
    return request(type, 0, {{at, sizeof s}});
  }
  Config config() {
    Config c;
    blk->config_read(0, {reinterpret_cast<u8*>(&c), sizeof c});
    return c;
  }
  void pause() {
    bool done = false;
    blk->quiesce([&] { done = true; });
    for (int i = 0; i < 1000 && !done; ++i) loop->run_once(1'000'000);
    ASSERT_TRUE(done);
  }
  void resume() {
    blk->resume();
    driver->settle();
  }
};

TEST_F(VirtioBlkTest, ReadGivesTheDisksBytes) {
  file.put(512 * 3, "sector three");
  GuestAddr data = guest.allocate(1024);
  EXPECT_EQ(request(kIn, 3, {{data, 512, true}, {data + 512, 512, true}}), kOk);
  EXPECT_EQ(guest.text(data, 12), "sector three");
}

TEST_F(VirtioBlkTest, UsedLengthCoversDataAndStatus) {
  GuestAddr data = guest.allocate(512);
  auto used = driver->request(0, {{header(kIn, 0), 16}, {data, 512, true}, {status_byte(), 1, true}});
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 513u);
}

TEST_F(VirtioBlkTest, WriteReachesTheDisk) {
  EXPECT_EQ(write(5, std::string(512, 'w')), kOk);
  EXPECT_EQ(file.text(512 * 5, 512), std::string(512, 'w'));
}

TEST_F(VirtioBlkTest, HeaderDataAndStatusMayBeCutAnywhere) {
  std::string bytes(1024, 'c');
  GuestAddr h = header(kOut, 1), data = text(bytes);
  // Header in three pieces, the last one with nothing of the data; status follows.
  EXPECT_TRUE(driver->request(
      0, {{h, 1}, {h + 1, 14}, {h + 15, 1}, {data, 1000}, {data + 1000, 24}, {status_byte(), 1, true}}));
  EXPECT_EQ(file.text(512, 1024), bytes);
  GuestAddr both = guest.allocate(513);  // data and status in one buffer
  EXPECT_TRUE(driver->request(0, {{header(kIn, 1), 16}, {both, 100, true}, {both + 100, 413, true}}));
  EXPECT_EQ(guest.text(both, 512), std::string(512, 'c'));
  EXPECT_EQ(*guest.at(both + 512), kOk);
}

TEST_F(VirtioBlkTest, PackedRingsWorkToo) {
  build({}, blk->features());
  EXPECT_EQ(write(0, std::string(512, 'p')), kOk);
  EXPECT_EQ(file.text(0, 1), "p");
}

TEST_F(VirtioBlkTest, RequestsOutsideOrOfOddSizeAreIoErrors) {
  GuestAddr data = guest.allocate(1024);
  u64 end = kDiskBytes / 512;
  EXPECT_EQ(request(kIn, end, {{data, 512, true}}), kIoErr);
  EXPECT_EQ(request(kIn, end - 1, {{data, 1024, true}}), kIoErr);
  EXPECT_EQ(request(kIn, ~u64{0}, {{data, 512, true}}), kIoErr);
  EXPECT_EQ(request(kIn, 0, {{data, 100, true}}), kIoErr);
  EXPECT_EQ(request(kOut, u64{1} << 55, {{data, 512}}), kIoErr);
  EXPECT_EQ(node.requests, 0);
  EXPECT_TRUE(errors.empty());
  EXPECT_EQ(request(kIn, end - 1, {{data, 512, true}}), kOk);
}

TEST_F(VirtioBlkTest, UnknownTypeIsUnsupported) {
  EXPECT_EQ(request(99, 0), kUnsupp);
  EXPECT_EQ(request(14, 0), kUnsupp);
}

TEST_F(VirtioBlkTest, RequestWithoutHeaderOrStatusNeedsReset) {
  driver->queue(0).add({{header(kIn, 0), 8}, {status_byte(), 1, true}});
  driver->kick(0);
  EXPECT_EQ(driver->reset_requests, 1);
}

TEST_F(VirtioBlkTest, GetIdGivesTheSerialPaddedWithZeroes) {
  build({.serial = "disk-7"});
  GuestAddr id = guest.put(std::vector<u8>(20, 'x'));
  EXPECT_EQ(request(kGetId, 0, {{id, 20, true}}), kOk);
  EXPECT_EQ(guest.text(id, 20), "disk-7" + std::string(14, '\0'));
}

TEST_F(VirtioBlkTest, GetIdFillsAShortBufferOnly) {
  build({.serial = "a-serial-longer-than-20-bytes"});
  GuestAddr id = guest.put(std::vector<u8>(6, 'x'));
  EXPECT_EQ(request(kGetId, 0, {{id, 4, true}}), kOk);
  EXPECT_EQ(guest.text(id, 6), "a-sexx");
}

TEST_F(VirtioBlkTest, FlushReachesTheNode) {
  EXPECT_EQ(request(kFlush, 0), kOk);
  EXPECT_EQ(node.flushes, 1);
}

TEST_F(VirtioBlkTest, ConfigurationDescribesTheDisk) {
  build({.queues = 2,
         .queue_size = 128,
         .logical_block_bytes = 4096,
         .physical_block_bytes = 8192,
         .min_io_bytes = 4096});
  Config c = config();
  EXPECT_EQ(c.capacity, kDiskBytes / 512);
  EXPECT_EQ(c.seg_max, 126u);
  EXPECT_EQ(c.blk_size, 4096u);
  EXPECT_EQ(c.physical_block_exp, 1);
  EXPECT_EQ(c.min_io_size, 1);
  EXPECT_EQ(c.num_queues, 2);
  EXPECT_EQ(c.writeback, 1);
  EXPECT_EQ(c.max_discard_seg, 16u);
  EXPECT_TRUE(blk->features() & kFeatureMq);
  GuestAddr data = guest.allocate(512);
  EXPECT_EQ(request(kIn, 0, {{data, 512, true}}), kIoErr);  // less than a block
}

TEST_F(VirtioBlkTest, EveryQueueServes) {
  build({.queues = 3});
  for (u16 q = 0; q < 3; ++q) EXPECT_EQ(request(kFlush, 0, {}, q), kOk);
}

TEST_F(VirtioBlkTest, ReadOnlyDiskRefusesChanges) {
  build({.readonly = true});
  EXPECT_TRUE(blk->features() & kFeatureRo);
  EXPECT_FALSE(blk->features() & (kFeatureDiscard | kFeatureWriteZeroes));
  EXPECT_EQ(write(0, std::string(512, 'x')), kIoErr);
  EXPECT_EQ(segment(kDiscard, {0, 1, 0}), kIoErr);
}

TEST_F(VirtioBlkTest, DiscardAndWriteZeroesClearTheRange) {
  file.put(0, std::string(kDiskBytes, 'x'));
  EXPECT_EQ(segment(kWriteZeroes, {1, 2, 0}), kOk);
  EXPECT_EQ(file.text(511, 1026), "x" + std::string(1024, '\0') + "x");
  EXPECT_EQ(segment(kWriteZeroes, {8, 8, kSegmentUnmap}), kOk);
  EXPECT_EQ(file.text(4096, 4096), std::string(4096, '\0'));
  EXPECT_EQ(segment(kDiscard, {16, 8, 0}), kOk);
}

TEST_F(VirtioBlkTest, BadSegmentsAreRefused) {
  EXPECT_EQ(segment(kDiscard, {0, 1, kSegmentUnmap}), kUnsupp);
  EXPECT_EQ(segment(kWriteZeroes, {0, 1, 2}), kUnsupp);
  EXPECT_EQ(segment(kDiscard, {kDiskBytes / 512, 1, 0}), kIoErr);
  EXPECT_EQ(segment(kDiscard, {~u64{0}, 2, 0}), kIoErr);
  GuestAddr many = guest.allocate(17 * 16);
  EXPECT_EQ(request(kDiscard, 0, {{many, 17 * 16}}), kIoErr);
  EXPECT_EQ(request(kDiscard, 0, {{many, 15}}), kIoErr);
  EXPECT_EQ(request(kDiscard, 0), kIoErr);
}

TEST_F(VirtioBlkTest, FeaturesThatAreOffAreUnsupported) {
  build({.discard = false, .write_zeroes = false});
  EXPECT_EQ(segment(kDiscard, {0, 1, 0}), kUnsupp);
  EXPECT_EQ(segment(kWriteZeroes, {0, 1, 0}), kUnsupp);
}

TEST_F(VirtioBlkTest, DriverSwitchesTheWriteCache) {
  EXPECT_EQ(write(0, std::string(512, 'x')), kOk);
  u8 off = 0;
  blk->config_write(offsetof(Config, writeback), {&off, 1});
  EXPECT_EQ(write(0, std::string(512, 'x')), kOk);
  EXPECT_EQ(node.write_flags, (std::vector<u32>{block::kNoFlags, block::kFua}));
  driver->stop();
  EXPECT_EQ(config().writeback, 1);  // as after power-on
}

TEST_F(VirtioBlkTest, DriverThatCannotFlushGetsNoWriteCache) {
  build({}, kFeatureBlkSize);
  EXPECT_EQ(write(0, std::string(512, 'x')), kOk);
  EXPECT_EQ(node.write_flags.back(), block::kFua);
}

TEST_F(VirtioBlkTest, WriteThroughDiskShowsNoCache) {
  build({.write_through = true});
  EXPECT_EQ(config().writeback, 0);
  EXPECT_EQ(write(0, std::string(512, 'x')), kOk);
  EXPECT_EQ(node.write_flags.back(), block::kFua);
}

TEST_F(VirtioBlkTest, BatchOfCompletionsIsOneInterrupt) {
  auto null = block::make_null_node(*loop, {.size = kDiskBytes});
  driver.reset();
  blk = std::make_unique<VirtioBlk>(VirtioBlkOptions{}, *null, *loop, guest.space());
  driver = std::make_unique<TestDriver>(guest, *blk);
  driver->start(0, 64);
  for (int i = 0; i < 10; ++i) add(kFlush, 0, {});
  driver->kick(0);
  int used = 0;
  while (driver->queue(0).take_used()) ++used;
  EXPECT_EQ(used, 10);
  EXPECT_EQ(driver->interrupts[0], 1);
  driver.reset();
  blk.reset();
}

TEST_F(VirtioBlkTest, ResizeTellsTheDriver) {
  ASSERT_TRUE(block::finish(*loop, node.resize(2 * kDiskBytes, block::Preallocation::Off)));
  blk->size_changed();
  EXPECT_EQ(config().capacity, 2 * kDiskBytes / 512);
  EXPECT_EQ(driver->config_interrupts, 1);
}

// --- what happens when the host fails ---

TEST_F(VirtioBlkTest, ReportedErrorReachesGuestAndMachine) {
  build({.write_error = ErrorPolicy::Report});
  node.next_errors = {EIO};
  EXPECT_EQ(write(0, std::string(512, 'x')), kIoErr);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_FALSE(errors[0].read);
  EXPECT_EQ(errors[0].action, ErrorPolicy::Report);
  EXPECT_EQ(errors[0].text, "injected: Input/output error");
}

TEST_F(VirtioBlkTest, IgnoredErrorLooksLikeSuccess) {
  build({.read_error = ErrorPolicy::Ignore});
  node.next_errors = {EIO};
  EXPECT_EQ(request(kIn, 0, {{guest.allocate(512), 512, true}}), kOk);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].action, ErrorPolicy::Ignore);
}

TEST_F(VirtioBlkTest, FullDiskStopsAndTheRequestGoesAgainAtResume) {
  node.next_errors = {ENOSPC};
  GuestAddr status = add(kOut, 2, {{text(std::string(512, 'k')), 512}});
  driver->kick(0);
  EXPECT_EQ(*guest.at(status), kUnset);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].action, ErrorPolicy::Stop);
  EXPECT_TRUE(errors[0].no_space);
  EXPECT_TRUE(blk->has_kept_requests());
  pause();
  EXPECT_EQ(*guest.at(status), kUnset);
  resume();
  ASSERT_TRUE(driver->wait_used(0));
  EXPECT_EQ(*guest.at(status), kOk);
  EXPECT_EQ(file.text(1024, 1), "k");
  EXPECT_FALSE(blk->has_kept_requests());
}

TEST_F(VirtioBlkTest, OtherErrorsOfThatPolicyAreReported) {
  node.next_errors = {EIO};
  EXPECT_EQ(write(0, std::string(512, 'x')), kIoErr);
  EXPECT_EQ(errors.at(0).action, ErrorPolicy::Report);
}

TEST_F(VirtioBlkTest, KeptRequestsEndWithAReset) {
  node.next_errors = {ENOSPC, ENOSPC};
  add(kOut, 0, {{text(std::string(512, 'k')), 512}});
  add(kOut, 1, {{text(std::string(512, 'k')), 512}});
  driver->kick(0);
  EXPECT_TRUE(blk->has_kept_requests());
  driver->stop();
  EXPECT_FALSE(blk->has_kept_requests());
  driver->start(0);
  EXPECT_EQ(request(kFlush, 0), kOk);
}

TEST_F(VirtioBlkTest, KeptRequestsAreNotLostInSavedState) {
  node.next_errors = {ENOSPC};
  add(kOut, 0, {{text(std::string(512, 'k')), 512}});
  driver->kick(0);
  pause();
  Archive out;
  blk->visit_all(out, std::nullopt);
  EXPECT_FALSE(out.status());
}

TEST(VirtioBlkOptions, ValuesThatCannotBeAreNamed) {
  EXPECT_EQ(VirtioBlk::check({.logical_block_bytes = 1000}).error().text(), "logical_block_size cannot be 1000");
  EXPECT_FALSE(VirtioBlk::check({.logical_block_bytes = 4096, .physical_block_bytes = 512}));
  EXPECT_FALSE(VirtioBlk::check({.queues = 0}));
  EXPECT_FALSE(VirtioBlk::check({.queue_size = 100}));
  EXPECT_FALSE(VirtioBlk::check({.min_io_bytes = 100}));
  EXPECT_TRUE(VirtioBlk::check({}));
}

}  // namespace
}  // namespace atl::devices
