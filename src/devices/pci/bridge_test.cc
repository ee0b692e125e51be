#include "devices/pci/bridge.h"

#include <gtest/gtest.h>

#include "devices/pci/fake_vm.h"
#include "devices/pci/host_bridge.h"
#include "devices/pci/q35.h"

namespace atl::devices {
namespace {

using namespace pci;

class Answer final : public memory::BusDevice {
 public:
  u64 bus_read(u64, unsigned) override { return 0x42; }
  void bus_write(u64, u64, unsigned) override {}
};

/// A root port at 00:02.0 with a function with one memory BAR behind it.
class BridgeTest : public testing::Test {
 protected:
  BridgeTest() {
    function_.set_bar(0, {.kind = PciBar::Kind::Memory32, .size = 0x1000, .device = &answer_});
    function_.set_interrupt_pin(1);
    port_->attach_to(*bus_);
    EXPECT_TRUE(bus_->add({2, 0}, port_->function()));
    EXPECT_TRUE(port_->secondary()->add({0, 0}, function_));
  }
  ~BridgeTest() override {
    port_->secondary()->remove({0, 0});
    bus_->remove({2, 0});
  }
  static std::unique_ptr<PciBus> make_bus(BridgeTest& test) {
    return MUST(PciBus::create({.memory = test.memory_, .ports = test.ports_,
                                .set_gsi = [&test](u32 gsi, bool level) { test.vm_.gsi(gsi).set(level); },
                                .request_reset = {},
                                .pirq_of = &Ich9LpcBridge::pirq_of,
                                .direct_gsi = 16}));
  }
  static std::unique_ptr<PciBridge> make_port(FakeVm& vm) {
    return MUST(PciBridge::create(vm, {.type = "pcie-root-port", .kind = PciBridge::Kind::RootPort, .slot = 3}));
  }
  void set_port(u16 at, u32 value, unsigned width) { bus_->config_write({2, 0}, at, value, width); }
  u32 port(u16 at, unsigned width) { return bus_->config_read({2, 0}, at, width); }
  u32 config(u8 number, u16 at, unsigned width = 4) { return bus_->window_read(u64{number} << 20 | at, width); }
  void set_config(u8 number, u16 at, u32 value, unsigned width = 4) { bus_->window_write(u64{number} << 20 | at, value, width); }
  u64 read(u64 at) { return memory::BusView(memory_).read(at, 1); }
  void open(u8 number) {
    set_port(kSecondaryBus, number, 1);
    set_port(kSubordinateBus, number, 1);
    set_port(kMemoryBase, 0xe000, 2);
    set_port(kMemoryLimit, 0xe000, 2);
    set_port(kCommand, kCommandMemory, 2);
  }
  u16 slot_register(u16 offset) {
    u8 at = port_->function().byte(kCapabilities);
    while (port_->function().byte(at) != 0x10) at = port_->function().byte(at + 1u);
    return static_cast<u16>(at + offset);
  }

  memory::AddressSpace memory_{"memory", u64{1} << 40};
  memory::AddressSpace ports_{"ports", 1 << 16};
  FakeVm vm_;
  Answer answer_;
  std::unique_ptr<PciBus> bus_ = make_bus(*this);
  PciFunction function_{"thing", {.vendor = 0x1234, .device = 0x5678}};
  std::unique_ptr<PciBridge> port_ = make_port(vm_);
};

TEST_F(BridgeTest, FunctionsBehindAnswerToTheNumberThatTheGuestGave) {
  EXPECT_EQ(config(1, kVendorId), 0xffffffffu);
  open(1);
  EXPECT_EQ(config(1, kVendorId), 0x56781234u);
  open(7);
  EXPECT_EQ(config(1, kVendorId), 0xffffffffu);
  EXPECT_EQ(config(7, kVendorId), 0x56781234u);
}

TEST_F(BridgeTest, BarsBehindAreDecodedInsideTheWindowOnly) {
  open(1);
  set_config(1, kBar0, 0xe0010000);
  set_config(1, kCommand, kCommandMemory, 2);
  EXPECT_EQ(read(0xe0010000), 0x42u);
  set_port(kMemoryBase, 0xe010, 2);
  set_port(kMemoryLimit, 0xe010, 2);
  EXPECT_EQ(read(0xe0010000), 0xffu);
  set_config(1, kBar0, 0xe0100000);
  EXPECT_EQ(read(0xe0100000), 0x42u);
  set_port(kCommand, 0, 2);
  EXPECT_EQ(read(0xe0100000), 0xffu);
}

TEST_F(BridgeTest, PinsReachTheRootRotatedByTheSlot) {
  open(1);
  function_.set_intx(true);  // slot 2, pin A: PIRQ 4 + 2
  EXPECT_TRUE(vm_.lines[22].level);
  function_.set_intx(false);
  EXPECT_FALSE(vm_.lines[22].level);
}

TEST_F(BridgeTest, ADeviceThatComesWhileTheGuestRunsRaisesPresenceChanged) {
  const u16 control = slot_register(24), status = slot_register(26);
  set_port(control, 1 << 5 | 1 << 3 | port(control, 2), 2);
  set_port(status, 0x1f, 2);
  port_->set_occupied(true, true);
  EXPECT_EQ(port(status, 2) & 0x48u, 0x48u);
  EXPECT_TRUE(vm_.lines[22].level);
  set_port(status, 1 << 3, 2);
  EXPECT_EQ(port(status, 2) & 0x48u, 0x40u);
  EXPECT_FALSE(vm_.lines[22].level);
}

TEST_F(BridgeTest, EachEventAfterTheLastWasClearedSendsAMessage) {
  u8 msi = port_->function().byte(kCapabilities);
  while (port_->function().byte(msi) != kCapabilityMsi) msi = port_->function().byte(msi + 1u);
  set_port(msi + 2u, 1, 2);
  const u16 control = slot_register(24), status = slot_register(26);
  set_port(control, 1 << 5 | 1 << 3 | 1 << 0 | port(control, 2), 2);
  for (int expected = 1; expected <= 3; ++expected) {
    port_->press_attention_button();
    EXPECT_EQ(vm_.routes[0]->fired, expected);
    set_port(status, 0x1f, 2);
  }
}

TEST_F(BridgeTest, SwitchingTheSlotOffEjects) {
  int gone = 0;
  port_->on_power_off([&] { ++gone; });
  port_->set_occupied(true, false);
  const u16 control = slot_register(24), status = slot_register(26);
  port_->press_attention_button();
  EXPECT_TRUE(port(status, 2) & 1);
  set_port(control, 1 << 10 | 3 << 8 | 3 << 6, 2);
  EXPECT_EQ(gone, 1);
  set_port(control, 1 << 10 | 3 << 8 | 3 << 6, 2);
  EXPECT_EQ(gone, 1);
}

TEST_F(BridgeTest, TheMchOpensAndMovesItsWindow) {
  u64 base = 0, size = 0;
  MchHostBridge host(memory_, *bus_, nullptr, [&](u64 b, u64 s) { base = b, size = s; });
  ASSERT_TRUE(bus_->add({0, 0}, host.function()));
  bus_->config_write({0, 0}, 0x60, 0xb0000001, 4);
  EXPECT_EQ(base, 0xb0000000u);
  EXPECT_EQ(size, 256 * kMiB);
  EXPECT_EQ(memory::BusView(memory_).read(0xb0000000, 4), 0x29c08086u);
  EXPECT_EQ(memory::BusView(memory_).read(0xb0010000, 4), 0x000c1b36u);
  host.reset();
  EXPECT_EQ(size, 0u);
  bus_->remove({0, 0});
}

class SmramTest : public BridgeTest {
 protected:
  static constexpr u64 kLow = 32 * kMiB;
  SmramTest() {
    ram_ = MUST(memory::RamBlock::create("ram", kLow, {}));  // a sparse mapping
    MUST(memory_.add({.name = "ram", .size = kLow, .ram = ram_}));
    ram_->data()[0xa0000] = 0x11;
    ram_->data()[kLow - 1] = 0x22;
    MUST(memory_.add({.name = "vga", .base = 0xa0000, .size = 0x20000, .priority = 1, .device = &vga_}));
  }
  u64 smm(u64 at) { return memory::BusView(memory_, memory::View::Smm).read(at, 1); }

  struct Vga : memory::BusDevice {
    u64 bus_read(u64, unsigned) override { return 0x77; }
    void bus_write(u64, u64, unsigned) override {}
  } vga_;
  std::shared_ptr<memory::RamBlock> ram_;
};

TEST_F(SmramTest, TheI440fxHidesMemoryBehindTheScreen) {
  I440fxHostBridge host(std::make_unique<Smram>(memory_, kLow));
  ASSERT_TRUE(bus_->add({0, 0}, host.function()));
  EXPECT_EQ(smm(0xa0000), 0x77u);
  bus_->config_write({0, 0}, 0x72, 0x4a, 1);
  EXPECT_EQ(read(0xa0000), 0x11u) << "open";
  bus_->config_write({0, 0}, 0x72, 0x0a, 1);
  EXPECT_EQ(read(0xa0000), 0x77u);
  EXPECT_EQ(smm(0xa0000), 0x11u);
  bus_->config_write({0, 0}, 0x72, 0x5a, 1);
  EXPECT_EQ(bus_->config_read({0, 0}, 0x72, 1), 0x1au) << "locked and closed";
  bus_->config_write({0, 0}, 0x72, 0x4a, 1);
  EXPECT_EQ(read(0xa0000), 0x77u);
  host.reset();
  EXPECT_EQ(smm(0xa0000), 0x77u);
  bus_->config_write({0, 0}, 0x72, 0x4a, 1);
  EXPECT_EQ(read(0xa0000), 0x11u) << "reset ends the lock";
  bus_->remove({0, 0});
}

TEST_F(SmramTest, TheMchHidesTheEndOfLowMemory) {
  MchHostBridge host(memory_, *bus_, std::make_unique<Smram>(memory_, kLow), [](u64, u64) {});
  ASSERT_TRUE(bus_->add({0, 0}, host.function()));
  bus_->config_write({0, 0}, 0x50, 0xffff, 2);
  EXPECT_EQ(bus_->config_read({0, 0}, 0x50, 2), 16u);
  bus_->config_write({0, 0}, 0x9d, 0x0a, 1);
  EXPECT_EQ(read(kLow - 1), 0x22u);
  bus_->config_write({0, 0}, 0x9e, 0x01, 1);
  EXPECT_EQ(read(kLow - 1), 0xffu);
  EXPECT_EQ(smm(kLow - 1), 0x22u);
  EXPECT_EQ(read(kLow - kMiB - 1), 0u);
  bus_->config_write({0, 0}, 0x9e, 0x07, 1);
  EXPECT_EQ(read(kLow - 16 * kMiB), 0xffu);
  EXPECT_EQ(read(kLow - 16 * kMiB - 1), 0u);
  bus_->config_write({0, 0}, 0x9d, 0x1a, 1);
  bus_->config_write({0, 0}, 0x9e, 0x00, 1);
  EXPECT_EQ(read(kLow - 1), 0xffu) << "locked";
  host.reset();
  EXPECT_EQ(read(kLow - 1), 0x22u);
  bus_->remove({0, 0});
}

}  // namespace
}  // namespace atl::devices
