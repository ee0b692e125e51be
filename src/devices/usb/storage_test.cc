#include "devices/usb/storage.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "block/test_support.h"
#include "devices/usb/hub.h"

namespace atl::devices::usb {
namespace {

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }

class UsbStorageTest : public testing::Test {
 protected:
  UsbStorageTest() {
    ScsiUnitOptions options;
    options.io.read_error = block::ErrorPolicy::Report;
    auto unit = std::make_unique<ScsiUnit>(*loop_, std::move(options));
    unit->io().set_node(&injector_);
    disk_ = std::make_unique<Storage>(std::move(unit), "SERIAL");
    disk_->set_speed(Speed::High);
    const std::array<u8, 8> configure = {0, kSetConfiguration, 1, 0, 0, 0, 0, 0};
    disk_->setup(configure);
    disk_->in(0, {});
    command({scsi::kTestUnitReady}, 0, false);  // takes the unit attention
    status();
  }
  std::array<u8, 31> block(std::vector<u8> cdb, u32 bytes, bool in) {
    std::array<u8, 31> raw{};
    store_le<u32>(&raw[0], 0x43425355);
    store_le<u32>(&raw[4], ++tag_);
    store_le<u32>(&raw[8], bytes);
    raw[12] = in ? 0x80 : 0;
    raw[14] = static_cast<u8>(cdb.size());
    std::ranges::copy(cdb, &raw[15]);
    return raw;
  }
  void command(std::vector<u8> cdb, u32 bytes, bool in) { EXPECT_EQ(disk_->out(2, block(std::move(cdb), bytes, in)).status, Answer::Ok); }
  /// Tries until the disk is ready.
  Outcome in(std::span<u8> buffer) {
    Outcome outcome{Answer::Nak, 0};
    for (int i = 0; i < 1000 && outcome.status == Answer::Nak; ++i) {
      loop_->run_once(0);
      outcome = disk_->in(1, buffer);
    }
    return outcome;
  }
  Outcome out(std::span<const u8> data) {
    Outcome outcome{Answer::Nak, 0};
    for (int i = 0; i < 1000 && outcome.status == Answer::Nak; ++i) {
      loop_->run_once(0);
      outcome = disk_->out(2, data);
    }
    return outcome;
  }
  /// The status wrapper's last byte; residue_ is what it says, too.
  u8 status() {
    std::array<u8, 13> wrapper{};
    const Outcome outcome = in(wrapper);
    EXPECT_EQ(outcome.status, Answer::Ok);
    EXPECT_EQ(outcome.bytes, 13u);
    EXPECT_EQ(load_le<u32>(&wrapper[4]), tag_);
    residue_ = load_le<u32>(&wrapper[8]);
    return wrapper[12];
  }

  std::unique_ptr<Loop> loop_ = make_loop();
  block::MemoryNode node_{std::string(kMiB, 'd')};
  block::ErrorInjector injector_{node_};
  std::unique_ptr<Storage> disk_;
  u32 tag_ = 0, residue_ = 0;
};

TEST_F(UsbStorageTest, ReadsComeInPacketsOfAnySize) {
  node_.bytes.replace(512, 512, std::string(512, 'x'));
  command({scsi::kRead10, 0, 0, 0, 0, 0, 0, 1, 0}, 256 * 512, true);
  std::string all;
  std::vector<u8> packet(20000);
  while (all.size() < 256 * 512) {
    const Outcome got = in(std::span(packet).first(std::min<size_t>(packet.size(), 256 * 512 - all.size())));
    ASSERT_EQ(got.status, Answer::Ok);
    ASSERT_GT(got.bytes, 0u);
    all.append(packet.begin(), packet.begin() + static_cast<std::ptrdiff_t>(got.bytes));
  }
  EXPECT_EQ(all, node_.bytes.substr(0, 256 * 512));
  EXPECT_EQ(status(), 0);
  EXPECT_EQ(residue_, 0u);
}

TEST_F(UsbStorageTest, WritesReachTheMedium) {
  command({scsi::kWrite10, 0, 0, 0, 0, 2, 0, 0, 200}, 200 * 512, false);
  const std::vector<u8> packet(512, 'w');
  for (int i = 0; i < 200; ++i) ASSERT_EQ(out(packet).status, Answer::Ok);
  EXPECT_EQ(status(), 0);
  EXPECT_EQ(node_.bytes.substr(1024, 200 * 512), std::string(200 * 512, 'w'));
}

TEST_F(UsbStorageTest, ShortAnswersLeaveAResidue) {
  command({scsi::kInquiry, 0, 0, 0, 255, 0}, 255, true);
  std::array<u8, 255> data{};
  const Outcome got = in(data);
  EXPECT_LT(got.bytes, 255u);
  EXPECT_EQ(status(), 0);
  EXPECT_EQ(residue_, 255 - got.bytes);
}

TEST_F(UsbStorageTest, AnAnswerThatFillsItsPacketsIsEndedByAnEmptyOne) {
  command({scsi::kRead10, 0, 0, 0, 0, 0, 0, 0, 1}, 1024, true);
  std::array<u8, 512> packet{};
  EXPECT_EQ(in(packet).bytes, 512u);
  const Outcome end = in(packet);
  EXPECT_EQ(end.status, Answer::Ok);
  EXPECT_EQ(end.bytes, 0u);
  EXPECT_EQ(status(), 0);
  EXPECT_EQ(residue_, 512u);
}

TEST_F(UsbStorageTest, AFailedCommandIsExplainedByRequestSense) {
  command({scsi::kRead10, 0, 0xff, 0, 0, 0, 0, 0, 1}, 512, true);
  std::array<u8, 512> packet{};
  EXPECT_EQ(in(packet).bytes, 0u);
  EXPECT_EQ(status(), 1);
  command({scsi::kRequestSense, 0, 0, 0, 18, 0}, 18, true);
  std::array<u8, 18> sense{};
  EXPECT_EQ(in(sense).bytes, 18u);
  EXPECT_EQ(sense[2], 5);
  EXPECT_EQ(sense[12], 0x21);
  EXPECT_EQ(status(), 0);
}

TEST_F(UsbStorageTest, ADisagreementAboutTheDirectionIsAPhaseError) {
  command({scsi::kRead10, 0, 0, 0, 0, 0, 0, 0, 1}, 512, false);
  const std::vector<u8> packet(512, 'w');
  EXPECT_EQ(out(packet).status, Answer::Ok);
  EXPECT_EQ(status(), 2);
}

TEST_F(UsbStorageTest, ABadWrapperStopsBothPipesUntilTheReset) {
  auto bad = block({scsi::kTestUnitReady}, 0, false);
  bad[0] = 'X';
  EXPECT_EQ(disk_->out(2, bad).status, Answer::Stall);
  std::array<u8, 13> wrapper{};
  EXPECT_EQ(disk_->in(1, wrapper).status, Answer::Stall);
  const std::array<u8, 8> reset = {0x21, 0xff, 0, 0, 0, 0, 0, 0};
  disk_->setup(reset);
  disk_->in(0, {});
  command({scsi::kTestUnitReady}, 0, false);
  EXPECT_EQ(status(), 0);
}

TEST_F(UsbStorageTest, ItsStateGoesOnInTheMiddleOfARead) {
  command({scsi::kRead10, 0, 0, 0, 0, 0, 0, 0, 4}, 2048, true);
  std::array<u8, 512> packet{};
  EXPECT_EQ(in(packet).bytes, 512u);
  Archive saved;
  disk_->visit(saved);
  const auto state = saved.take();
  disk_->bus_reset();
  Archive loaded{std::span<const u8>(state)};
  disk_->visit(loaded);
  ASSERT_TRUE(loaded.status());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(in(packet).bytes, 512u);
  EXPECT_EQ(status(), 0);
}

TEST(UsbWakeTest, AHubAsksToWakeWhenADeviceComes) {
  Hub hub(4);
  hub.set_speed(Speed::Full);
  EXPECT_FALSE(hub.asks_to_wake());
  const std::array<u8, 8> allow = {0, kSetFeature, kFeatureRemoteWakeup, 0, 0, 0, 0, 0};
  hub.setup(allow);
  hub.in(0, {});
  EXPECT_FALSE(hub.asks_to_wake());
  Hub other(1);
  hub.set_child(1, &other);
  EXPECT_TRUE(hub.asks_to_wake());
}

}  // namespace
}  // namespace atl::devices::usb
