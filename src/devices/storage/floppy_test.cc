#include "devices/storage/floppy.h"

#include <gtest/gtest.h>

#include "block/test_support.h"
#include "devices/legacy/test_doubles.h"
#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

constexpr u64 kImageBytes = 1440 * kKiB;

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }

struct FloppyTest : testing::Test {
  std::unique_ptr<Loop> loop = make_loop();
  TestGuest guest;
  RecordingLine irq;
  block::MemoryNode node{std::string(kImageBytes, 'f')};
  IsaDma dma{guest.space()};
  FloppyController fdc{*loop, dma, irq};
  FloppyDrive* drive = nullptr;

  void SetUp() override {
    auto made = std::make_unique<FloppyDrive>(*loop, DiskIoOptions{}, false);
    made->medium_io().set_node(&node);
    drive = made.get();
    fdc.attach(0, std::move(made));
    out(0x3f2, 0x1c);  // motor, DMA gate, no reset
    command({0x03, 0xdf, 0x02});
    command({0x07, 0});
    EXPECT_EQ(results({0x08}), (std::vector<u8>{0x20, 0}));
  }
  void out(u16 port, u8 value) {
    if (port == 0x3f7) fdc.input_port().bus_write(0, value, 1);
    else fdc.ports().bus_write(port - 0x3f2u, value, 1);
  }
  u8 in(u16 port) {
    return static_cast<u8>(port == 0x3f7 ? fdc.input_port().bus_read(0, 1) : fdc.ports().bus_read(port - 0x3f2u, 1));
  }
  void command(const std::vector<u8>& bytes) {
    for (u8 byte : bytes) out(0x3f5, byte);
  }
  std::vector<u8> results(const std::vector<u8>& bytes) {
    command(bytes);
    for (int turn = 0; turn < 100 && !(in(0x3f4) & 0x80); ++turn) loop->run_once(1'000'000);
    std::vector<u8> out_bytes;
    while ((in(0x3f4) & 0xc0) == 0xc0) out_bytes.push_back(in(0x3f5));
    return out_bytes;
  }
  void program(GuestAddr at, u16 bytes, bool to_memory) {
    auto& ports = dma.first_ports();
    ports.bus_write(10, 6, 1);
    ports.bus_write(12, 0, 1);
    ports.bus_write(11, to_memory ? 0x46 : 0x4a, 1);
    ports.bus_write(4, at & 0xff, 1);
    ports.bus_write(4, at >> 8 & 0xff, 1);
    ports.bus_write(5, (bytes - 1u) & 0xff, 1);
    ports.bus_write(5, (bytes - 1u) >> 8, 1);
    dma.page_ports().bus_write(0, at >> 16, 1);
    ports.bus_write(10, 2, 1);
  }
};

TEST_F(FloppyTest, ReadComesByDmaAndEndsAtTerminalCount) {
  node.bytes.replace(512, 5, "hello");
  GuestAddr data = guest.allocate(1024);
  program(data, 1024, true);
  EXPECT_EQ(results({0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff}), (std::vector<u8>{0, 0, 0, 0, 0, 3, 2}));
  EXPECT_EQ(guest.text(data + 512, 5), "hello");
}

TEST_F(FloppyTest, MultiTrackGoesOnWithTheOtherHead) {
  node.bytes.replace(18 * 512, 6, "side 1");
  GuestAddr data = guest.allocate(1024);
  program(data, 1024, true);
  EXPECT_EQ(results({0xe6, 0, 0, 0, 18, 2, 18, 0x1b, 0xff}), (std::vector<u8>{4, 0, 0, 0, 1, 2, 2}));
  EXPECT_EQ(guest.text(data + 512, 6), "side 1");
}

TEST_F(FloppyTest, WriteReachesTheImage) {
  command({0x0f, 0, 5});
  results({0x08});
  program(guest.put(std::vector<u8>(512, 'w')), 512, false);
  EXPECT_EQ(results({0xc5, 4, 5, 1, 3, 2, 18, 0x1b, 0xff})[1], 0);
  EXPECT_EQ(node.bytes.substr(((5 * 2 + 1) * 18 + 2) * 512, 512), std::string(512, 'w'));
}

TEST_F(FloppyTest, FormatFillsTheNamedSectors) {
  std::vector<u8> ids;
  for (u8 sector = 1; sector <= 18; ++sector) ids.insert(ids.end(), {0, 0, sector, 2});
  program(guest.put(ids), static_cast<u16>(ids.size()), false);
  EXPECT_EQ(results({0x4d, 0, 2, 18, 0x54, 0xf6})[0], 0);
  EXPECT_EQ(node.bytes.substr(0, 18 * 512), std::string(18 * 512, '\xf6'));
  EXPECT_EQ(node.bytes[18 * 512], 'f');
}

TEST_F(FloppyTest, WrongPlacesAndMissingMediaAreTold) {
  program(guest.allocate(512), 512, true);
  EXPECT_EQ(results({0xe6, 0, 0, 0, 19, 2, 18, 0x1b, 0xff})[1], 0x04);  // no such sector
  EXPECT_EQ(results({0xe6, 0, 3, 0, 1, 2, 18, 0x1b, 0xff})[2], 0x10);   // the head is elsewhere
  drive->set_medium(nullptr);
  EXPECT_EQ(results({0x4a, 0})[0] & 0xc0, 0x40);
}

TEST_F(FloppyTest, ChangeLineFallsWithAStepAndAMedium) {
  EXPECT_EQ(in(0x3f7), 0x80);
  command({0x0f, 0, 1});
  results({0x08});
  EXPECT_EQ(in(0x3f7), 0);
  drive->set_medium(&node);
  EXPECT_EQ(in(0x3f7), 0x80);
  command({0x0f, 0, 1});  // the head is there already
  results({0x08});
  EXPECT_EQ(in(0x3f7), 0x80);
  command({0x07, 0});
  results({0x08});
  EXPECT_EQ(in(0x3f7), 0);
}

TEST_F(FloppyTest, RelativeSeeksCountFromWhereTheHeadIs) {
  command({0xcf, 0, 5});
  EXPECT_EQ(results({0x08}), (std::vector<u8>{0x20, 5}));
  command({0x8f, 0, 2});
  EXPECT_EQ(results({0x08}), (std::vector<u8>{0x20, 3}));
  command({0x8f, 0, 9});
  EXPECT_EQ(results({0x08}), (std::vector<u8>{0x20, 0}));
  command({0xcf, 0, 200});
  EXPECT_EQ(results({0x08}), (std::vector<u8>{0x20, 79}));
}

TEST_F(FloppyTest, InterruptLastsUntilTheLastResultIsRead) {
  command({0x4a, 0});
  while (irq.level && in(0x3f4) & 0x40) in(0x3f5);
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(in(0x3f4), 0x80);
}

TEST_F(FloppyTest, ResetPollsFourDrives) {
  out(0x3f2, 0x18);
  out(0x3f2, 0x1c);
  EXPECT_TRUE(irq.level);
  for (u8 unit = 0; unit < 4; ++unit) EXPECT_EQ(results({0x08})[0], 0xc0 | unit);
  EXPECT_EQ(results({0x08}), std::vector<u8>{0x80});
}

TEST_F(FloppyTest, HalfACommandComesBackFromSavedState) {
  command({0x0f, 0});
  Archive saved;
  fdc.visit(saved);
  ASSERT_TRUE(saved.status());
  std::vector<u8> bytes = saved.take();
  fdc.reset();
  Archive loaded{bytes};
  fdc.visit(loaded);
  ASSERT_TRUE(loaded.status());
  command({7});
  EXPECT_EQ(results({0x08}), (std::vector<u8>{0x20, 7}));
}

TEST(IsaDma, AddressAndCountStepAndStopAtTheEnd) {
  TestGuest guest;
  IsaDma dma(guest.space());
  auto& ports = dma.first_ports();
  for (u8 value : {0x00, 0x20}) ports.bus_write(2, value, 1);
  for (u8 value : {0x03, 0x00}) ports.bus_write(3, value, 1);
  EXPECT_EQ(dma.available(1), 0u);
  ports.bus_write(10, 1, 1);
  EXPECT_EQ(dma.available(1), 4u);
  bool done = false;
  const u8 data[6] = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(dma.to_memory(1, data, done), 4u);
  EXPECT_TRUE(done);
  EXPECT_EQ(*guest.at(0x2003), 4);
  EXPECT_EQ(*guest.at(0x2004), 0);
  EXPECT_EQ(ports.bus_read(8, 1), 2u);
  EXPECT_EQ(dma.available(1), 0u);
}

}  // namespace
}  // namespace atl::devices
