#include "devices/usb/uhci.h"

#include <gtest/gtest.h>

#include "devices/nic/fake_backend.h"
#include "devices/usb/hid.h"
#include "devices/usb/hub.h"

namespace atl::devices::usb {
namespace {

constexpr u32 kList = 0x1000, kQueueHead = 0x2000, kTd = 0x3000, kData = 0x4000;
constexpr u32 kActive = 1 << 23, kIoc = 1 << 24, kNak = 1 << 19, kStalled = 1 << 22;

class UhciTest : public testing::Test {
 protected:
  UhciTest() {
    bus_ = std::make_shared<Bus>("usb-bus.0", 2);
    make();
    base_ = bench_.bus->config_read({0, 0}, 0x20, 4) & ~3u;
  }
  ~UhciTest() override { bench_.unplug(); }
  void make() {
    uhci_ = std::make_unique<Uhci>(*Uhci::find_model("piix3-usb-uhci"), bench_.memory, bench_.clock, bus_, std::nullopt);
    bench_.plug(*uhci_);
  }
  u16 read(u32 at) { return static_cast<u16>(bench_.port_view.read(base_ + at, 2)); }
  void write(u32 at, u16 value) { bench_.port_view.write(base_ + at, value, 2); }
  void plug(std::unique_ptr<UsbDevice> device, const std::string& id, const std::string& path = "") { MUST(bus_->plug(device, id, path)); }
  void plug_tablet() { plug(std::make_unique<Pointer>(Pointer::Mode::Tablet, router_, HidOptions{}), "tablet"); }
  /// Port 1 is reset and enabled, the schedule runs one queue.
  void start() {
    write(0x10, 0x200);
    write(0x10, 0x00);
    write(0x10, 0x04);
    for (u32 i = 0; i < 1024; ++i) bench_.put<u32>(kList + 4 * i, kQueueHead | 2);
    bench_.put<u32>(kQueueHead, 1);
    bench_.put<u32>(kQueueHead + 4, 1);
    write(0x08, kList & 0xffff);
    write(0x04, 0x0f);
    write(0x00, 1);
  }
  void descriptor(unsigned index, u32 link, u8 pid, u8 address, u8 endpoint, u32 bytes, u32 flags = 0) {
    const u32 at = kTd + index * 32;
    bench_.put<u32>(at, link);
    bench_.put<u32>(at + 4, kActive | flags);
    bench_.put<u32>(at + 8, pid | u32{address} << 8 | u32{endpoint} << 15 | ((bytes - 1) & 0x7ff) << 21);
    bench_.put<u32>(at + 12, kData + index * 256);
  }
  u32 status(unsigned index) { return bench_.get<u32>(kTd + index * 32 + 4); }
  void run(unsigned frames = 2) {
    bench_.put<u32>(kQueueHead + 4, kTd);
    bench_.clock.advance(frames * 1'000'000);
  }
  void request(std::array<u8, 8> setup, u8 address) {
    std::copy(setup.begin(), setup.end(), bench_.data + kData);
    descriptor(0, (kTd + 32) | 4, 0x2d, address, 0, 8);
    descriptor(1, 1, 0x69, address, 0, 0);
    run();
  }

  CardBench bench_;
  display::InputRouter router_;
  std::shared_ptr<Bus> bus_;
  std::unique_ptr<Uhci> uhci_;
  u64 base_ = 0;
};

TEST_F(UhciTest, PluggedDeviceShowsAtThePort) {
  EXPECT_EQ(read(0x10) & 1, 0);
  plug_tablet();
  EXPECT_EQ(read(0x10) & 3, 3);
  write(0x10, 2);
  EXPECT_EQ(read(0x10) & 3, 1);
  EXPECT_TRUE(bus_->unplug(*bus_->find_id("tablet")));
  EXPECT_EQ(read(0x10) & 3, 2);
}

TEST_F(UhciTest, SetupAndDataStagesOfAQueueRunInAFrame) {
  plug_tablet();
  start();
  const u8 setup[] = {0x80, 6, 0, 1, 0, 0, 18, 0};
  std::copy(std::begin(setup), std::end(setup), bench_.data + kData);
  descriptor(0, (kTd + 32) | 4, 0x2d, 0, 0, 8);
  descriptor(1, (kTd + 64) | 4, 0x69, 0, 0, 8);
  descriptor(2, 1, 0x69, 0, 0, 64, kIoc);
  run();
  EXPECT_EQ(status(0) & (kActive | 0x7ff), 7u);
  EXPECT_EQ(bench_.get<u8>(kData + 256), 18);
  EXPECT_EQ(status(2) & (kActive | 0x7ff), 9u);  // 10 bytes were left
  EXPECT_TRUE(read(2) & 1);
  EXPECT_TRUE(bench_.interrupt());
  write(2, 0x3f);
  EXPECT_FALSE(bench_.interrupt());
}

TEST_F(UhciTest, EndpointWithoutNewsSaysNakUntilTheUserMoves) {
  plug_tablet();
  start();
  request({0, kSetAddress, 3, 0, 0, 0, 0, 0}, 0);
  request({0, kSetConfiguration, 1, 0, 0, 0, 0, 0}, 3);
  descriptor(0, 1, 0x69, 3, 1, 8, kIoc);
  run();
  EXPECT_EQ(status(0) & (kActive | kNak), kActive | kNak);
  ASSERT_TRUE(router_.point({.x = 1, .y = 2, .wheel = 0, .buttons = 4}).has_value());
  bench_.clock.advance(1000);  // woken: not in a frame's time
  EXPECT_EQ(status(0) & (kActive | 0x7ff), 5u);
  EXPECT_EQ(bench_.get<u8>(kData), 4);
}

TEST_F(UhciTest, NobodyAtTheAddressIsATimeout) {
  plug_tablet();
  start();
  descriptor(0, 1, 0x69, 77, 0, 8);
  run();
  EXPECT_EQ(status(0) & (kActive | kStalled), kStalled);
  EXPECT_TRUE(read(2) & 2);
}

TEST_F(UhciTest, LoopOfQueuesEndsInAFrame) {
  plug_tablet();
  start();
  bench_.put<u32>(kQueueHead, kQueueHead | 2);
  bench_.clock.advance(5'000'000);
  EXPECT_TRUE(read(0) & 1);
}

TEST_F(UhciTest, ListOutsideOfMemoryStopsTheController) {
  write(0x08, 0);
  write(0x0a, 0xfff0);
  write(0x00, 1);
  bench_.clock.advance(2'000'000);
  EXPECT_TRUE(read(2) & 0x20);
}

TEST_F(UhciTest, DeviceBehindAHubIsReachedOnceItsPortIsEnabled) {
  plug(std::make_unique<Hub>(4), "hub", "1");
  plug(std::make_unique<Pointer>(Pointer::Mode::Mouse, router_, HidOptions{}), "mouse", "1.3");
  start();
  request({0, kSetAddress, 2, 0, 0, 0, 0, 0}, 0);
  request({0, kSetConfiguration, 1, 0, 0, 0, 0, 0}, 2);
  request({0x23, kSetFeature, 8, 0, 3, 0, 0, 0}, 2);
  request({0x23, kSetFeature, 4, 0, 3, 0, 0, 0}, 2);
  request({0, kSetAddress, 9, 0, 0, 0, 0, 0}, 0);
  EXPECT_EQ(bus_->find_id("mouse")->address(), 9);
  EXPECT_EQ(bus_->describe(0),
            "  Device 0.2, Port 1, Speed 12 Mb/s, Product QEMU USB Hub, ID: hub\n"
            "  Device 0.9, Port 1.3, Speed 12 Mb/s, Product QEMU USB Mouse, ID: mouse\n");
}

TEST_F(UhciTest, PortsThatAreTakenOrMissingAreNamed) {
  plug_tablet();
  std::unique_ptr<UsbDevice> hub = std::make_unique<Hub>(4);
  EXPECT_EQ(bus_->plug(hub, "", "1").error().text(), "usb port 1 (bus usb-bus.0) is in use");
  EXPECT_EQ(bus_->plug(hub, "", "7").error().text(), "usb port 7 (bus usb-bus.0) not found");
  EXPECT_TRUE(hub != nullptr);
}

TEST_F(UhciTest, SavedStateGoesIntoANewController) {
  plug_tablet();
  start();
  request({0, kSetAddress, 3, 0, 0, 0, 0, 0}, 0);
  Archive out;
  uhci_->visit(out);
  const std::vector<u8> saved = out.take();
  uhci_->reset();
  Archive in{std::span<const u8>(saved)};
  uhci_->visit(in);
  ASSERT_TRUE(in.status().has_value());
  EXPECT_EQ(bus_->find_id("tablet")->address(), 3);
  request({0, kSetConfiguration, 1, 0, 0, 0, 0, 0}, 3);
  EXPECT_EQ(status(1) & (kActive | kStalled), 0u);
}

}  // namespace
}  // namespace atl::devices::usb
