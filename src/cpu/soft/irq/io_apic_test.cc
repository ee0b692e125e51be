#include "cpu/soft/irq/io_apic.h"

#include <gtest/gtest.h>

#include "cpu/soft/irq/test_chips.h"

namespace atl::soft {
namespace {

constexpr u32 kMaskedEntry = 1 << 16, kLevelEntry = 1 << 15;

class IoApicTest : public ::testing::Test {
 protected:
  IoApicTest() {
    vm.enable(0);
    vm.enable(1);
    vm.apic(0).write(kApicLvtLint0, kLvtMasked);
  }
  void write(u32 index, u32 value) {
    bus.write(IoApic::kBase, index, 4);
    bus.write(IoApic::kBase + 0x10, value, 4);
  }
  u32 read(u32 index) {
    bus.write(IoApic::kBase, index, 4);
    return static_cast<u32>(bus.read(IoApic::kBase + 0x10, 4));
  }
  void route(u32 pin, u32 low, u32 destination = 0) {
    write(0x11 + 2 * pin, destination << 24);
    write(0x10 + 2 * pin, low);
  }

  TestChips vm{2};
  memory::BusView bus{vm.memory};
};

TEST_F(IoApicTest, IdentifiesItself) {
  EXPECT_EQ(read(1), 0x00170020u);
  write(0, 0x0f000000);
  EXPECT_EQ(read(0), 0x0f000000u);
  EXPECT_EQ(read(2), 0x0f000000u);
  EXPECT_EQ(read(0x10), kMaskedEntry);
  EXPECT_EQ(read(0x50), 0u);
}

TEST_F(IoApicTest, EdgeGoesToItsDestinationOnce) {
  route(5, 0x45, 1);
  vm.chips->gsi(5).set(true);
  EXPECT_EQ(take_interrupt(vm.core(1)), 0x45);
  vm.apic(1).write(kApicEoi, 0);
  EXPECT_FALSE(interrupt_pending(vm.core(1)));
  EXPECT_FALSE(interrupt_pending(vm.core(0)));
}

TEST_F(IoApicTest, TimerIsPinTwo) {
  route(2, 0x30);
  vm.chips->gsi(0).pulse();
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x30);
}

TEST_F(IoApicTest, LevelComesBackAfterEoiWhileActive) {
  route(10, kLevelEntry | 0x50);
  vm.chips->gsi(10).set(true);
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x50);
  EXPECT_TRUE(read(0x10 + 20) & 1 << 14) << "remote IRR";
  EXPECT_FALSE(interrupt_pending(vm.core(0)));
  vm.apic(0).write(kApicEoi, 0);
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x50);
  vm.chips->gsi(10).set(false);
  vm.apic(0).write(kApicEoi, 0);
  EXPECT_FALSE(interrupt_pending(vm.core(0)));
  EXPECT_FALSE(read(0x10 + 20) & 1 << 14);
}

TEST_F(IoApicTest, MaskedEdgeIsDeliveredWhenUnmaskedWhileThePinIsUp) {
  route(4, kMaskedEntry | 0x44);
  vm.chips->gsi(4).set(true);
  EXPECT_FALSE(interrupt_pending(vm.core(0)));
  route(4, 0x44);
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x44);
}

TEST_F(IoApicTest, MaskedPulseIsForgotten) {
  route(4, kMaskedEntry | 0x44);
  vm.chips->gsi(4).pulse();
  route(4, 0x44);
  EXPECT_FALSE(interrupt_pending(vm.core(0)));
}

TEST_F(IoApicTest, EoiRegisterEndsALevelInterrupt) {
  route(10, kLevelEntry | 0x50);
  vm.chips->gsi(10).set(true);
  vm.chips->gsi(10).set(false);
  bus.write(IoApic::kBase + 0x40, 0x50, 4);
  EXPECT_FALSE(read(0x10 + 20) & 1 << 14);
}

TEST_F(IoApicTest, SwitchingToEdgeClearsRemoteIrr) {
  route(10, kLevelEntry | 0x50);
  vm.chips->gsi(10).set(true);
  route(10, kMaskedEntry | 0x50);
  EXPECT_FALSE(read(0x10 + 20) & 1 << 14);
}

TEST_F(IoApicTest, StateComesBack) {
  route(10, kLevelEntry | 0x50);
  vm.chips->gsi(10).set(true);
  Archive out;
  vm.chips->visit(out);
  std::vector<u8> bytes = out.take();

  TestChips other(1);
  Archive in{std::span<const u8>(bytes)};
  other.chips->visit(in);
  ASSERT_TRUE(in.status()) << in.status().error().text();
  EXPECT_EQ(other.chips->describe_io_apic(), vm.chips->describe_io_apic());
  EXPECT_EQ(other.chips->describe_pic(), vm.chips->describe_pic());
}

TEST(InterruptChipsTest, ApicOnlyHasNoPicAndNoTimerOverride) {
  TestChips vm(1, cpu::IrqChip::ApicOnly);
  vm.enable(0);
  memory::BusView bus(vm.memory), ports(vm.ports);
  EXPECT_EQ(ports.read(0x21, 1), 0xffu);
  bus.write(IoApic::kBase, 0x10, 4);
  bus.write(IoApic::kBase + 0x10, 0x61, 4);
  vm.chips->gsi(0).pulse();
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x61);
  EXPECT_EQ(vm.chips->describe_pic(), "");
}

}  // namespace
}  // namespace atl::soft
