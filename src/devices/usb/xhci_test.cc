#include "devices/usb/xhci.h"

#include <gtest/gtest.h>

#include "devices/nic/fake_backend.h"
#include "devices/usb/hid.h"

namespace atl::devices::usb {
namespace {

using namespace xhci;

constexpr u64 kDcbaa = 0x1000, kCommands = 0x2000, kEvents = 0x3000, kSegments = 0x4000, kInput = 0x5000, kDeviceContext = 0x6000, kRing0 = 0x7000,
              kRing1 = 0x8000, kData = 0x9000;

class XhciTest : public testing::Test {
 protected:
  XhciTest() {
    bus_ = std::make_shared<Bus>("usb.0", 4);
    xhci_ = MUST(Xhci::create({}, {bench_.vm, bench_.memory, bench_.clock}, bus_));
    bench_.plug(*xhci_);
    base_ = bench_.bus->config_read({0, 0}, 0x10, 4) & ~15u;
    std::unique_ptr<UsbDevice> tablet = std::make_unique<Pointer>(Pointer::Mode::Tablet, router_, HidOptions{});
    MUST(bus_->plug(tablet, "tablet", "1"));
    start();
  }
  ~XhciTest() override { bench_.unplug(); }
  u32 read(u32 at) { return static_cast<u32>(bench_.view.read(base_ + at, 4)); }
  void write(u32 at, u32 value) { bench_.view.write(base_ + at, value, 4); }
  void write64(u32 at, u64 value) { bench_.view.write(base_ + at, value, 8); }
  void start() {
    bench_.put<u64>(kSegments, kEvents);
    bench_.put<u32>(kSegments + 8, 64);
    write(kRuntimeAt + kInterrupterAt + kErstsz, 1);
    write64(kRuntimeAt + kInterrupterAt + kErstbaLow, kSegments);
    write64(kRuntimeAt + kInterrupterAt + kErdpLow, kEvents);
    write(kRuntimeAt + kInterrupterAt + kIman, 2);
    write64(kOperationalAt + kDcbaapLow, kDcbaa);
    write64(kOperationalAt + kCrcrLow, kCommands | 1);
    bench_.put<u64>(kDcbaa + 8, kDeviceContext);
    write(kOperationalAt + kCommand, kRun | kInterruptEnable);
    run();
  }
  void run() { bench_.clock.advance(1000); }
  struct Seen {
    u8 type = 0, code = 0, slot = 0;
    u64 pointer = 0;
    u32 length = 0;
  };
  /// The next event; acknowledges it as a driver does.
  Seen event() {
    const u64 at = kEvents + next_event_ * 16;
    const u32 control = bench_.get<u32>(at + 12), status = bench_.get<u32>(at + 8);
    if (!(control & 1)) return {};
    ++next_event_;
    write(kOperationalAt + kStatus, kEventInterrupt);
    write(kRuntimeAt + kInterrupterAt + kIman, 3);
    write64(kRuntimeAt + kInterrupterAt + kErdpLow, (at + 16) | kErdpBusy);
    return {static_cast<u8>(control >> 10 & 63), static_cast<u8>(status >> 24), static_cast<u8>(control >> 24), bench_.get<u64>(at), status & 0xffffff};
  }
  static void put_trb(CardBench& bench, u64 at, u64 parameter, u32 status, u32 control) {
    bench.put<u64>(at, parameter);
    bench.put<u32>(at + 8, status);
    bench.put<u32>(at + 12, control | kCycle);
  }
  Seen command(u8 type, u64 parameter = 0, u32 flags = 0) {
    put_trb(bench_, kCommands + next_command_++ * 16, parameter, 0, u32{type} << 10 | flags);
    write(kDoorbellsAt, 0);
    run();
    return event();
  }
  void reset_port() {
    write(kPortsAt, kPower | kPortReset);
    run();
    EXPECT_EQ(event().type, kPortEvent);
    write(kPortsAt, kPower | kResetChange | kConnectChange);
  }
  void fill_input(u32 add) {
    bench_.put<u32>(kInput + 4, add);
    bench_.put<u32>(kInput + 32, 3u << 20 | 3u << 27);   // high speed
    bench_.put<u32>(kInput + 36, 1u << 16);              // root port 1
    bench_.put<u32>(kInput + 64 + 4, 3u << 1 | 4u << 3 | 64u << 16);
    bench_.put<u64>(kInput + 64 + 8, (kRing0 + next_trb_ * 16) | 1);
  }
  /// A control transfer with an IN data stage; the event of its status stage.
  Seen get(u64 setup, u32 bytes) {
    put_trb(bench_, kRing0 + next_trb_++ * 16, setup, 8, kSetupStage << 10 | kImmediate | 3u << 16);
    put_trb(bench_, kRing0 + next_trb_++ * 16, kData, bytes, kDataStage << 10 | kDirectionBit | kShortInterrupt);
    put_trb(bench_, kRing0 + next_trb_++ * 16, 0, 0, kStatusStage << 10 | kIoc);
    write(kDoorbellsAt + 4, 1);
    run();
    Seen seen = event();
    if (seen.code == static_cast<u8>(Code::ShortPacket)) seen = event();
    return seen;
  }
  void set_configuration() {
    put_trb(bench_, kRing0 + next_trb_++ * 16, 0x0000000000010900, 8, kSetupStage << 10 | kImmediate);
    put_trb(bench_, kRing0 + next_trb_++ * 16, 0, 0, kStatusStage << 10 | kIoc | kDirectionBit);
    write(kDoorbellsAt + 4, 1);
    run();
    EXPECT_EQ(event().code, 1);
  }
  void address() {
    reset_port();
    EXPECT_EQ(command(kEnableSlot).code, 1);
    fill_input(3);
    EXPECT_EQ(command(kAddressDevice, kInput, 1u << 24).code, 1);
  }

  CardBench bench_;
  display::InputRouter router_;
  std::shared_ptr<Bus> bus_;
  std::unique_ptr<Xhci> xhci_;
  u64 base_ = 0;
  unsigned next_event_ = 0, next_command_ = 0, next_trb_ = 0;
};

TEST_F(XhciTest, DeviceIsAddressedAndTellsItsDescriptor) {
  EXPECT_EQ(event().type, kPortEvent);
  address();
  EXPECT_EQ(bus_->find_id("tablet")->address(), 1);
  EXPECT_EQ(get(0x0012000001000680, 64).code, 1);
  EXPECT_EQ(bench_.get<u8>(kData), 18);
}

TEST_F(XhciTest, ResetDeviceAfterTransfersCompletes) {
  EXPECT_EQ(event().type, kPortEvent);
  reset_port();
  EXPECT_EQ(command(kEnableSlot).code, 1);
  fill_input(3);
  EXPECT_EQ(command(kAddressDevice, kInput, 1u << 24 | kBlockSetAddress).code, 1);
  EXPECT_EQ(get(0x0040000001000680, 64).code, 1);
  reset_port();
  EXPECT_EQ(command(kResetDevice, 0, 1u << 24).code, 1);
  fill_input(3);
  EXPECT_EQ(command(kAddressDevice, kInput, 1u << 24).code, 1);
  EXPECT_EQ(bus_->find_id("tablet")->address(), 1);
}

TEST_F(XhciTest, InterruptEndpointWaitsForTheUser) {
  EXPECT_EQ(event().type, kPortEvent);
  address();
  fill_input(1 | 1u << 3);
  bench_.put<u32>(kInput + 32 + 3 * 32 + 4, 7u << 3 | 8u << 16);
  bench_.put<u64>(kInput + 32 + 3 * 32 + 8, kRing1 | 1);
  EXPECT_EQ(command(kConfigureEndpoint, kInput, 1u << 24).code, 1);
  set_configuration();
  put_trb(bench_, kRing1, kData, 8, kNormal << 10 | kIoc | kShortInterrupt);
  write(kDoorbellsAt + 4, 3);
  run();
  EXPECT_EQ(event().type, 0);
  ASSERT_TRUE(router_.point({.x = 5, .y = 6, .wheel = 0, .buttons = 1}).has_value());
  run();
  const Seen seen = event();
  EXPECT_EQ(seen.code, static_cast<u8>(Code::ShortPacket));
  EXPECT_EQ(seen.length, 2u);
  EXPECT_EQ(bench_.get<u8>(kData), 1);
  EXPECT_EQ(bench_.get<u16>(kData + 1), 5);
}

}  // namespace
}  // namespace atl::devices::usb
