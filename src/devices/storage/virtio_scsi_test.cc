#include "devices/storage/virtio_scsi.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "block/test_support.h"
#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

constexpr u16 kControl = 0, kEvent = 1, kRequest = 2;
constexpr u32 kHeaderBytes = 51, kResponseBytes = 108;

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }

struct VirtioScsiTest : testing::Test {
  std::unique_ptr<Loop> loop = make_loop();
  block::MemoryNode node{std::string(kMiB, 'd')};
  block::ErrorInjector injector{node};
  TestGuest guest;
  VirtioScsi scsi{{}, *loop, guest.space()};
  TestDriver driver{guest, scsi};
  GuestAddr response = 0;

  void SetUp() override {
    ScsiUnitOptions options;
    options.serial = "unit-3";
    scsi.attach_scsi({3, 0}, unit(options), false);
    driver.start(scsi.features() & ~virtio::kFeaturePacked);
    request(3, {scsi::kTestUnitReady});  // takes the unit attention
  }
  std::unique_ptr<ScsiUnit> unit(ScsiUnitOptions options) {
    auto made = std::make_unique<ScsiUnit>(*loop, std::move(options));
    made->io().set_node(&injector);
    return made;
  }
  GuestAddr header(u8 target, std::vector<u8> cdb, u16 lun = 0) {
    std::vector<u8> bytes(kHeaderBytes);
    bytes[0] = 1;
    bytes[1] = target;
    store_be<u16>(&bytes[2], static_cast<u16>(0x4000 | lun));
    std::ranges::copy(cdb, &bytes[19]);
    return guest.put(bytes);
  }
  void add(u8 target, std::vector<u8> cdb, std::vector<TestBuffer> out = {}, std::vector<TestBuffer> in = {}, u16 lun = 0) {
    std::vector<TestBuffer> chain = {{header(target, std::move(cdb), lun), kHeaderBytes}};
    chain.insert(chain.end(), out.begin(), out.end());
    response = guest.put(std::vector<u8>(kResponseBytes, 0xee));
    chain.push_back({response, kResponseBytes, true});
    chain.insert(chain.end(), in.begin(), in.end());
    driver.queue(kRequest).add(chain);
    driver.kick(kRequest);
  }
  /// The SCSI status; the response code is at response + 11.
  u8 request(u8 target, std::vector<u8> cdb, std::vector<TestBuffer> out = {}, std::vector<TestBuffer> in = {}, u16 lun = 0) {
    add(target, std::move(cdb), std::move(out), std::move(in), lun);
    EXPECT_TRUE(driver.wait_used(kRequest));
    return *guest.at(response + 10);
  }
  u8 response_code() { return *guest.at(response + 11); }
  u8 sense_key() { return *guest.at(response + 12 + 2); }
};

TEST_F(VirtioScsiTest, ReadsAndWritesMoveBlocks) {
  GuestAddr out = guest.put(std::vector<u8>(1024, 'w')), in = guest.allocate(1024);
  EXPECT_EQ(request(3, {scsi::kWrite10, 0, 0, 0, 0, 4, 0, 0, 2}, {{out, 1024}}), scsi::kGood);
  EXPECT_EQ(node.bytes.substr(2048, 1024), std::string(1024, 'w'));
  EXPECT_EQ(request(3, {scsi::kRead10, 0, 0, 0, 0, 3, 0, 0, 2}, {}, {{in, 1024, true}}), scsi::kGood);
  EXPECT_EQ(guest.text(in, 1024), std::string(512, 'd') + std::string(512, 'w'));
}

TEST_F(VirtioScsiTest, MissingTargetsAndUnitsAreTold) {
  request(9, {scsi::kTestUnitReady});
  EXPECT_EQ(response_code(), 3);  // bad target
  EXPECT_EQ(request(3, {scsi::kTestUnitReady}, {}, {}, 5), scsi::kCheckCondition);
  GuestAddr in = guest.allocate(36);
  EXPECT_EQ(request(3, {scsi::kInquiry, 0, 0, 0, 36}, {}, {{in, 36, true}}, 5), scsi::kGood);
  EXPECT_EQ(*guest.at(in), 0x7f);
}

TEST_F(VirtioScsiTest, ReportLunsListsTheTargetsUnits) {
  scsi.attach_scsi({3, 7}, unit({}), false);
  GuestAddr in = guest.allocate(64);
  EXPECT_EQ(request(3, {scsi::kReportLuns, 0, 0, 0, 0, 0, 0, 0, 0, 64}, {}, {{in, 64, true}}), scsi::kGood);
  EXPECT_EQ(load_be<u32>(guest.at(in)), 16u);
  EXPECT_EQ(load_be<u16>(guest.at(in + 16)), 7);
}

TEST_F(VirtioScsiTest, VitalPagesNameTheUnit) {
  GuestAddr in = guest.allocate(64);
  EXPECT_EQ(request(3, {scsi::kInquiry, 1, 0x80, 0, 64}, {}, {{in, 64, true}}), scsi::kGood);
  EXPECT_EQ(guest.text(in + 4, 6), "unit-3");
  EXPECT_EQ(request(3, {scsi::kInquiry, 1, 0x55, 0, 64}, {}, {{in, 64, true}}), scsi::kCheckCondition);
  EXPECT_EQ(sense_key(), 5);
}

TEST_F(VirtioScsiTest, UnmapAndWriteSameClearBlocks) {
  std::vector<u8> list(24);
  store_be<u16>(&list[0], 22);
  store_be<u16>(&list[2], 16);
  store_be<u64>(&list[8], 2);
  store_be<u32>(&list[16], 2);
  EXPECT_EQ(request(3, {scsi::kUnmap, 0, 0, 0, 0, 0, 0, 0, 24}, {{guest.put(list), 24}}), scsi::kGood);
  EXPECT_EQ(node.bytes.substr(1023, 1026), "d" + std::string(1024, '\0') + "d");
  GuestAddr block = guest.put(std::vector<u8>(512, 's'));
  EXPECT_EQ(request(3, {scsi::kWriteSame10, 0, 0, 0, 0, 8, 0, 0, 3}, {{block, 512}}), scsi::kGood);
  EXPECT_EQ(node.bytes.substr(4096, 1536), std::string(1536, 's'));
  store_be<u64>(&list[8], ~u64{0});
  EXPECT_EQ(request(3, {scsi::kUnmap, 0, 0, 0, 0, 0, 0, 0, 24}, {{guest.put(list), 24}}), scsi::kCheckCondition);
}

TEST_F(VirtioScsiTest, RangesOutsideTheDiskAreRefused) {
  GuestAddr in = guest.allocate(512);
  EXPECT_EQ(request(3, {scsi::kRead16, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1}, {}, {{in, 512, true}}), scsi::kCheckCondition);
  EXPECT_EQ(injector.requests, 0);
}

TEST_F(VirtioScsiTest, HotPluggedUnitIsAnnounced) {
  GuestAddr buffer = guest.allocate(16);
  driver.queue(kEvent).add({{buffer, 16, true}});
  driver.kick(kEvent);
  scsi.attach_scsi({5, 0}, unit({}), true);
  ASSERT_TRUE(driver.wait_used(kEvent));
  EXPECT_EQ(load_le<u32>(guest.at(buffer)), 1u);
  EXPECT_EQ(*guest.at(buffer + 5), 5);
  scsi.detach_scsi({5, 0});
  driver.queue(kEvent).add({{buffer, 16, true}});
  driver.kick(kEvent);
  ASSERT_TRUE(driver.wait_used(kEvent));
  EXPECT_EQ(load_le<u32>(guest.at(buffer)), 0x80000000u);  // missed for want of a buffer
}

TEST_F(VirtioScsiTest, FullDiskWaitsForPauseAndResume) {
  injector.next_errors = {ENOSPC};
  add(3, {scsi::kWrite10, 0, 0, 0, 0, 0, 0, 0, 1}, {{guest.put(std::vector<u8>(512, 'k')), 512}});
  EXPECT_FALSE(driver.queue(kRequest).take_used());
  bool paused = false;
  scsi.quiesce([&] { paused = true; });
  for (int turn = 0; turn < 100 && !paused; ++turn) loop->run_once(1'000'000);
  ASSERT_TRUE(paused);
  scsi.resume();
  driver.settle();
  ASSERT_TRUE(driver.wait_used(kRequest));
  EXPECT_EQ(node.bytes[0], 'k');
}

TEST_F(VirtioScsiTest, TaskManagementAnswers) {
  std::vector<u8> frame(24);
  store_le<u32>(&frame[4], 5);
  frame[8] = 1;
  frame[9] = 3;
  GuestAddr answer = guest.put(std::vector<u8>(1, 0xee));
  ASSERT_TRUE(driver.request(kControl, {{guest.put(frame), 24}, {answer, 1, true}}));
  EXPECT_EQ(*guest.at(answer), 0);
}

}  // namespace
}  // namespace atl::devices
