#include "devices/usb/ehci.h"

#include <gtest/gtest.h>

#include "devices/nic/fake_backend.h"
#include "devices/usb/hid.h"
#include "devices/usb/uhci.h"

namespace atl::devices::usb {
namespace {

constexpr u32 kList = 0x1000, kQueue = 0x2000, kTd = 0x3000, kData = 0x8000, kPage = 4096;
// Registers, from the operational ones on.
constexpr u32 kCommand = 0x00, kStatus = 0x04, kEnable = 0x08, kPeriodicBase = 0x14, kAsyncAddress = 0x18, kConfigFlag = 0x40, kPort0 = 0x44;
constexpr u32 kRun = 1, kPeriodicEnable = 16, kAsyncEnable = 32, kDoorbell = 64;
constexpr u32 kConnected = 1, kEnabled = 4, kPortReset = 256, kPower = 1 << 12, kOwner = 1 << 13;
// Tokens and links.
constexpr u32 kOut = 0, kIn = 1, kSetup = 2, kActive = 1 << 7, kHalted = 1 << 6, kError = 1 << 3, kIoc = 1 << 15, kEnd = 1, kQueueLink = 2;

u32 bytes_left(u32 token) { return token >> 16 & 0x7fff; }

class EhciTest : public testing::Test {
 protected:
  EhciTest() {
    bus_ = std::make_shared<Bus>("ehci.0", Ehci::kPorts);
    make();
    base_ = (bench_.bus->config_read({0, 0}, 0x10, 4) & ~15u) + 0x20;
  }
  ~EhciTest() override { bench_.unplug(); }
  void make() {
    ehci_ = std::make_unique<Ehci>(*Ehci::find_model("usb-ehci"), bench_.memory, bench_.clock, bus_);
    bench_.plug(*ehci_);
  }
  u32 read(u32 at) { return static_cast<u32>(bench_.view.read(base_ + at, 4)); }
  void write(u32 at, u32 value) { bench_.view.write(base_ + at, value, 4); }
  static std::unique_ptr<UsbDevice> tablet(display::InputRouter& router, HidOptions options = {}) {
    return std::make_unique<Pointer>(Pointer::Mode::Tablet, router, std::move(options));
  }
  /// The tablet is at port 0, which is enabled.
  void start() {
    auto device = tablet(router_);
    MUST(bus_->plug(device, "tablet", ""));
    write(kConfigFlag, 1);
    write(kPort0, kPower | kPortReset);
    write(kPort0, kPower);
    write(kEnable, 0x3f);
    write(kStatus, 0x3f);
  }
  /// Descriptor `index` moves `bytes` at its own page; `next` and `other` (after a short one) are numbers of descriptors.
  void descriptor(unsigned index, u32 pid, u32 bytes, std::optional<unsigned> next = {}, std::optional<unsigned> other = {}, u32 flags = 0) {
    const u32 at = kTd + index * 64;
    auto link = [](std::optional<unsigned> to) { return to ? kTd + *to * 64 : kEnd; };
    bench_.put<u32>(at, link(next));
    bench_.put<u32>(at + 4, link(other));
    bench_.put<u32>(at + 8, kActive | pid << 8 | bytes << 16 | flags);
    for (unsigned page = 0; page < 5; ++page) bench_.put<u32>(at + 12 + 4 * page, kData + (index + page) * kPage);
  }
  u32 token(unsigned index) { return bench_.get<u32>(kTd + index * 64 + 8); }
  void queue(u8 address, u8 endpoint) {
    constexpr u32 kHighSpeed = 2 << 12, kToggleOfDescriptor = 1 << 14, kHead = 1 << 15;
    bench_.put<u32>(kQueue, kQueue | kQueueLink);
    bench_.put<u32>(kQueue + 4, address | u32{endpoint} << 8 | kHighSpeed | kToggleOfDescriptor | kHead | 64u << 16);
    bench_.put<u32>(kQueue + 8, 1u << 30);
    for (u32 at = 12; at < 48; at += 4) bench_.put<u32>(kQueue + at, 0);
    bench_.put<u32>(kQueue + 16, kTd);
    bench_.put<u32>(kQueue + 20, kEnd);
  }
  void run_async() {
    write(kAsyncAddress, kQueue);
    write(kCommand, kRun | kAsyncEnable);
    bench_.clock.advance(2'000'000);
  }
  void put_setup(std::array<u8, 8> bytes) { std::ranges::copy(bytes, bench_.data + kData); }
  void request(std::array<u8, 8> bytes, u8 address) {
    put_setup(bytes);
    descriptor(0, kSetup, 8, 1);
    descriptor(1, kIn, 0);
    queue(address, 0);
    run_async();
    ASSERT_EQ(token(1) & (kActive | kHalted), 0u);
  }

  CardBench bench_;
  display::InputRouter router_;
  std::shared_ptr<Bus> bus_;
  std::unique_ptr<Ehci> ehci_;
  u64 base_ = 0;
};

TEST_F(EhciTest, ResetEnablesThePortOfAFastDevice) {
  EXPECT_EQ(read(kPort0) & (kConnected | kEnabled), 0u);
  start();
  EXPECT_EQ(read(kPort0) & (kConnected | kEnabled), kConnected | kEnabled);
  EXPECT_TRUE(bus_->unplug(*bus_->find_id("tablet")));
  EXPECT_EQ(read(kPort0) & (kConnected | kEnabled), 0u);
  EXPECT_TRUE(bench_.interrupt());  // the port changed
}

TEST_F(EhciTest, SlowDevicesNeedACompanion) {
  auto slow = tablet(router_, {.high_speed = false});
  EXPECT_FALSE(bus_->plug(slow, "slow", ""));
  Uhci companion(*Uhci::find_model("ich9-usb-uhci1"), bench_.memory, bench_.clock, bus_, 0);
  ASSERT_TRUE(bus_->master()->add_companion(companion.controller(), 0));
  EXPECT_TRUE(read(kPort0) & kOwner);
  slow = tablet(router_, {.high_speed = false});
  ASSERT_TRUE(bus_->plug(slow, "slow", ""));
  write(kConfigFlag, 1);
  EXPECT_EQ(read(kPort0) & (kOwner | kConnected), kConnected);
  write(kPort0, kPower | kPortReset);
  write(kPort0, kPower);
  EXPECT_FALSE(read(kPort0) & kEnabled);  // which tells the driver to hand it over
  write(kPort0, kPower | kOwner);
  EXPECT_EQ(read(kPort0) & (kOwner | kConnected), kOwner);
  EXPECT_TRUE(bus_->unplug(*bus_->find_id("slow")));
}

TEST_F(EhciTest, AShortStageGoesOnWithTheAlternateDescriptor) {
  start();
  put_setup({0x80, kGetDescriptor, 0, 1, 0, 0, 64, 0});
  descriptor(0, kSetup, 8, 1);
  descriptor(1, kIn, 64, 3, 2);
  descriptor(2, kOut, 0, {}, {}, kIoc);
  descriptor(3, kIn, 64);
  queue(0, 0);
  run_async();
  EXPECT_EQ(token(0) & (kActive | kHalted), 0u);
  EXPECT_EQ(token(1) & (kActive | kHalted), 0u);
  EXPECT_EQ(bytes_left(token(1)), 64u - 18);
  EXPECT_EQ(bench_.get<u8>(kData + kPage), 18);
  EXPECT_FALSE(token(2) & kActive);
  EXPECT_TRUE(token(3) & kActive);
  EXPECT_TRUE(read(kStatus) & 1);
  EXPECT_TRUE(bench_.interrupt());
  write(kStatus, 0x3f);
  EXPECT_FALSE(bench_.interrupt());
}

TEST_F(EhciTest, DataCrossesIntoTheNextPage) {
  start();
  put_setup({0x80, kGetDescriptor, 0, 1, 0, 0, 18, 0});
  descriptor(0, kSetup, 8, 1);
  descriptor(1, kIn, 18);
  bench_.put<u32>(kTd + 64 + 12, kData + 2 * kPage - 8);
  bench_.put<u32>(kTd + 64 + 16, kData + 5 * kPage);
  queue(0, 0);
  run_async();
  EXPECT_EQ(bytes_left(token(1)), 0u);
  EXPECT_EQ(bench_.get<u8>(kData + 2 * kPage - 8), 18);   // bLength
  EXPECT_EQ(bench_.get<u8>(kData + 5 * kPage + 9), 1);    // bNumConfigurations
}

TEST_F(EhciTest, NobodyAtTheAddressHaltsTheQueue) {
  start();
  descriptor(0, kIn, 8);
  queue(77, 0);
  run_async();
  EXPECT_EQ(token(0) & (kActive | kHalted | kError), kHalted | kError);
  EXPECT_TRUE(read(kStatus) & 2);
}

TEST_F(EhciTest, PeriodicEndpointIsAskedEachFrame) {
  start();
  request({0, kSetAddress, 3, 0, 0, 0, 0, 0}, 0);
  request({0, kSetConfiguration, 1, 0, 0, 0, 0, 0}, 3);
  for (u32 i = 0; i < 1024; ++i) bench_.put<u32>(kList + 4 * i, kEnd);
  for (u32 i = 0; i < 1024; i += 8) bench_.put<u32>(kList + 4 * i, kQueue | kQueueLink);
  descriptor(0, kIn, 8, {}, {}, kIoc);
  queue(3, 1);
  bench_.put<u32>(kQueue, kEnd);
  write(kPeriodicBase, kList);
  write(kCommand, kRun | kPeriodicEnable);
  bench_.clock.advance(20'000'000);
  EXPECT_TRUE(token(0) & kActive);
  ASSERT_TRUE(router_.point({.x = 1, .y = 2, .wheel = 0, .buttons = 4}).has_value());
  bench_.clock.advance(20'000'000);
  EXPECT_FALSE(token(0) & kActive);
  EXPECT_EQ(bench_.get<u8>(kData), 4);
}

TEST_F(EhciTest, DoorbellIsAnsweredAfterAFrame) {
  start();
  bench_.put<u32>(kTd + 8, 0);
  queue(0, 0);
  run_async();
  write(kCommand, kRun | kAsyncEnable | kDoorbell);
  bench_.clock.advance(2'000'000);
  EXPECT_FALSE(read(kCommand) & kDoorbell);
  EXPECT_TRUE(read(kStatus) & 32);
}

TEST_F(EhciTest, RegistersComeBackFromSavedState) {
  start();
  write(kPeriodicBase, kList);
  write(kAsyncAddress, kQueue);
  Archive saved;
  ehci_->visit(saved);
  ASSERT_TRUE(saved.status());
  const std::vector<u8> bytes = saved.take();
  ehci_->reset();
  Archive loaded{bytes};
  ehci_->visit(loaded);
  ASSERT_TRUE(loaded.status());
  EXPECT_EQ(read(kAsyncAddress), kQueue);
  EXPECT_EQ(read(kPeriodicBase), kList);
  EXPECT_TRUE(read(kPort0) & kEnabled);
}

}  // namespace
}  // namespace atl::devices::usb
