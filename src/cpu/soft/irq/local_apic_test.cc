#include "cpu/soft/irq/local_apic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpu/irqchip_text.h"
#include "cpu/soft/irq/test_chips.h"

namespace atl::soft {
namespace {

constexpr u64 kX2apicBase = kApicBaseAddress | kApicBaseEnable | kApicBaseX2apic;

class LocalApicTest : public ::testing::Test {
 protected:
  LocalApicTest() {
    for (u32 i = 0; i < 4; ++i) vm.enable(i);
  }
  void deliver(u32 i, u8 vector, bool level = false) { vm.apic(i).accept({.level = level, .vector = vector}); }
  void enter_x2apic(u32 i) { ASSERT_TRUE(vm.apic(i).set_base_msr(kX2apicBase | (i == 0 ? kApicBaseBsp : 0))); }

  TestChips vm{4};
};

TEST_F(LocalApicTest, PowerOnStateIsDisabledAndInVirtualWireMode) {
  TestChips fresh(2);
  EXPECT_FALSE(fresh.apic(0).enabled());
  EXPECT_EQ(fresh.apic(0).read(kApicSvr), 0xffu);
  EXPECT_EQ(fresh.apic(0).read(kApicVersion), 0x50014u);
  EXPECT_EQ(fresh.apic(0).read(kApicLvtLint0), 0x700u);
  EXPECT_EQ(fresh.apic(1).read(kApicLvtLint0), 0x10000u);
  EXPECT_EQ(fresh.apic(1).read(kApicId), 1u << 24);
  EXPECT_EQ(fresh.apic(0).base_msr(), 0xfee00900u);
}

TEST_F(LocalApicTest, HighestVectorIsTakenFirst) {
  deliver(0, 0x31);
  deliver(0, 0x41);
  EXPECT_TRUE(vm.attends(0, kAttendInterrupt));
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x41);
  EXPECT_EQ(take_interrupt(vm.core(0)), -1) << "0x31 has lower priority than the one in service";
  vm.apic(0).write(kApicEoi, 0);
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x31);
}

TEST_F(LocalApicTest, TaskPriorityHoldsLowerClassesBack) {
  vm.apic(0).write(kApicTpr, 0x40);
  deliver(0, 0x4f);
  EXPECT_FALSE(interrupt_pending(vm.core(0)));
  vm.core(0).attention = 0;
  vm.apic(0).set_cr8(3);
  EXPECT_TRUE(vm.attends(0, kAttendInterrupt)) << "lowering the priority must make the run loop look again";
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x4f);
  EXPECT_EQ(vm.apic(0).read(kApicPpr), 0x40u);
}

TEST_F(LocalApicTest, DisabledApicAcceptsNothing) {
  vm.apic(1).write(kApicSvr, 0xff);
  deliver(1, 0x50);
  EXPECT_FALSE(interrupt_pending(vm.core(1)));
  EXPECT_TRUE(vm.apic(1).read(kApicLvtTimer) & kLvtMasked);
}

TEST_F(LocalApicTest, IllegalVectorIsAnErrorNotAnInterrupt) {
  vm.apic(0).write(kApicLvtError, 0xfe);
  deliver(0, 3);
  EXPECT_EQ(take_interrupt(vm.core(0)), 0xfe);
  EXPECT_EQ(vm.apic(0).read(kApicEsr), 0u);
  vm.apic(0).write(kApicEsr, 0);
  EXPECT_EQ(vm.apic(0).read(kApicEsr), u32{kErrorReceiveVector});
}

TEST_F(LocalApicTest, ErrorLvtWithIllegalVectorDoesNotRecurse) {
  vm.apic(0).write(kApicLvtError, 0x01);
  deliver(0, 3);
  EXPECT_FALSE(interrupt_pending(vm.core(0)));
}

TEST_F(LocalApicTest, IpiReachesThePhysicalDestination) {
  vm.apic(0).write(kApicIcrHigh, 2u << 24);
  vm.apic(0).write(kApicIcrLow, 0x55);
  EXPECT_EQ(take_interrupt(vm.core(2)), 0x55);
  EXPECT_FALSE(interrupt_pending(vm.core(1)));
}

TEST_F(LocalApicTest, ShorthandsNameSelfAndOthers) {
  vm.apic(1).write(kApicIcrLow, 1u << 18 | 0x60);
  vm.apic(1).write(kApicIcrLow, 3u << 18 | 0x61);
  EXPECT_EQ(take_interrupt(vm.core(1)), 0x60);
  for (u32 i : {0, 2, 3}) EXPECT_EQ(take_interrupt(vm.core(i)), 0x61);
  vm.apic(1).write(kApicEoi, 0);
  vm.apic(1).write(kApicIcrLow, 2u << 18 | 0x72);
  for (u32 i : {0, 1, 2, 3}) EXPECT_EQ(take_interrupt(vm.core(i)), 0x72);
}

TEST_F(LocalApicTest, BroadcastDestinationReachesAll) {
  vm.apic(0).write(kApicIcrHigh, 0xffu << 24);
  vm.apic(0).write(kApicIcrLow, 0x33);
  for (u32 i = 0; i < 4; ++i) EXPECT_EQ(take_interrupt(vm.core(i)), 0x33);
}

TEST_F(LocalApicTest, FlatLogicalDestinationIsABitMask) {
  for (u32 i = 0; i < 4; ++i) vm.apic(i).write(kApicLdr, 1u << (24 + i));
  route_interrupt(vm.vm, {.destination = 0x0a, .logical = true, .vector = 0x44});
  EXPECT_FALSE(interrupt_pending(vm.core(0)));
  EXPECT_EQ(take_interrupt(vm.core(1)), 0x44);
  EXPECT_FALSE(interrupt_pending(vm.core(2)));
  EXPECT_EQ(take_interrupt(vm.core(3)), 0x44);
}

TEST_F(LocalApicTest, ClusterLogicalDestinationComparesTheCluster) {
  for (u32 i = 0; i < 4; ++i) {
    vm.apic(i).write(kApicDfr, 0x0fffffff);
    vm.apic(i).write(kApicLdr, (i / 2) << 28 | 1u << (24 + i % 2));
  }
  route_interrupt(vm.vm, {.destination = 0x12, .logical = true, .vector = 0x44});
  EXPECT_EQ(take_interrupt(vm.core(3)), 0x44);
  for (u32 i : {0, 1, 2}) EXPECT_FALSE(interrupt_pending(vm.core(i)));
}

TEST_F(LocalApicTest, LowestPriorityReachesExactlyOneEnabledApic) {
  for (u32 i = 0; i < 4; ++i) vm.apic(i).write(kApicLdr, 1u << (24 + i));
  vm.apic(1).write(kApicSvr, 0xff);
  route_interrupt(vm.vm, {.destination = 0x0f, .logical = true, .delivery = Delivery::LowestPriority, .vector = 0x40});
  int taken = 0;
  for (u32 i = 0; i < 4; ++i) taken += take_interrupt(vm.core(i)) == 0x40;
  EXPECT_EQ(taken, 1);
}

TEST_F(LocalApicTest, InitAndSipiAskForAttention) {
  vm.apic(0).write(kApicIcrHigh, 1u << 24);
  vm.apic(0).write(kApicIcrLow, 0x4500);
  EXPECT_TRUE(vm.attends(1, kAttendInit));
  vm.apic(0).write(kApicIcrLow, 0x4609);
  EXPECT_TRUE(vm.attends(1, kAttendSipi));
  EXPECT_EQ(vm.apic(1).sipi_vector(), 9);
}

TEST_F(LocalApicTest, InitDeassertIsANoOp) {
  vm.apic(0).write(kApicIcrHigh, 1u << 24);
  vm.apic(0).write(kApicIcrLow, 0x8500);
  EXPECT_FALSE(vm.attends(1, kAttendInit));
}

TEST_F(LocalApicTest, NmiDeliveryNeedsNoVector) {
  route_interrupt(vm.vm, {.destination = 2, .delivery = Delivery::Nmi});
  EXPECT_TRUE(vm.attends(2, kAttendNmi));
}

TEST_F(LocalApicTest, PageIsPerVcpuAndOnlyWhereTheBaseSays) {
  u64 value = 0;
  EXPECT_TRUE(apic_read(vm.core(3), kApicBaseAddress + kApicId, 4, value));
  EXPECT_EQ(value, 3u << 24);
  EXPECT_TRUE(apic_read(vm.core(3), kApicBaseAddress + kApicId + 3, 1, value));
  EXPECT_EQ(value, 3u);
  EXPECT_FALSE(apic_read(vm.core(3), kApicBaseAddress + 0x1000, 4, value));
  EXPECT_TRUE(apic_write(vm.core(3), kApicBaseAddress + kApicTpr, 4, 0x20));
  EXPECT_EQ(vm.apic(3).cr8(), 2);
  EXPECT_TRUE(apic_write(vm.core(3), kApicBaseAddress + kApicTpr, 1, 0x90)) << "claimed, but ignored";
  EXPECT_EQ(vm.apic(3).cr8(), 2);
}

TEST_F(LocalApicTest, X2apicHidesThePageAndOffersMsrs) {
  enter_x2apic(2);
  u64 value = 0;
  EXPECT_FALSE(apic_read(vm.core(2), kApicBaseAddress + kApicId, 4, value));
  EXPECT_EQ(vm.apic(2).read_msr(0x802), 2u);
  EXPECT_EQ(vm.apic(2).read_msr(0x80d), 4u);
  EXPECT_EQ(vm.apic(2).read_msr(0x80b), std::nullopt) << "EOI is write-only";
  EXPECT_EQ(vm.apic(2).read_msr(0x80e), std::nullopt) << "no DFR";
  EXPECT_FALSE(vm.apic(2).write_msr(0x802, 1));
  EXPECT_FALSE(vm.apic(2).write_msr(0x80b, 1)) << "EOI takes zero only";
  EXPECT_FALSE(vm.apic(2).write_msr(0x808, u64{1} << 32));
  EXPECT_FALSE(vm.apic(1).read_msr(0x802)) << "not in x2APIC mode";
}

TEST_F(LocalApicTest, X2apicIcrAndSelfIpi) {
  enter_x2apic(0);
  enter_x2apic(3);
  EXPECT_TRUE(vm.apic(0).write_msr(0x830, u64{3} << 32 | 0x81));
  EXPECT_EQ(take_interrupt(vm.core(3)), 0x81);
  EXPECT_TRUE(vm.apic(0).write_msr(0x83f, 0x82));
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x82);
  EXPECT_TRUE(vm.apic(3).write_msr(0x830, u64{0x0001} << 32 | 1u << 11 | 0x83)) << "cluster 0, bit 0";
  EXPECT_TRUE(vm.apic(0).write_msr(0x80b, 0));
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x83);
}

TEST_F(LocalApicTest, ModeChangesFollowTheStateMachine) {
  EXPECT_FALSE(vm.apic(1).set_base_msr(kApicBaseAddress | kApicBaseX2apic)) << "x2APIC without enable";
  enter_x2apic(1);
  EXPECT_FALSE(vm.apic(1).set_base_msr(kApicBaseAddress | kApicBaseEnable)) << "x2APIC to xAPIC";
  EXPECT_TRUE(vm.apic(1).set_base_msr(kApicBaseAddress));
  EXPECT_FALSE(vm.apic(1).set_base_msr(kX2apicBase)) << "disabled to x2APIC";
  EXPECT_TRUE(vm.apic(1).set_base_msr(kApicBaseAddress | kApicBaseEnable));
  EXPECT_EQ(vm.apic(1).read(kApicSvr), 0xffu) << "disabling resets";
}

TEST_F(LocalApicTest, MsiDecodesDestinationAndVector) {
  route_msi(vm.vm, {.address = 0xfee02000, .data = 0x91});
  EXPECT_EQ(take_interrupt(vm.core(2)), 0x91);
  vm.apic(1).write(kApicLdr, 2u << 24);
  route_msi(vm.vm, {.address = 0xfee0200c, .data = 0x92});
  EXPECT_EQ(take_interrupt(vm.core(1)), 0x92);
  route_msi(vm.vm, {.address = 0x1'fee02000, .data = 0x93});
  route_msi(vm.vm, {.address = 0, .data = 0x93});
  EXPECT_FALSE(interrupt_pending(vm.core(2)));
}

TEST_F(LocalApicTest, OneShotTimerFiresOnceAtItsTime) {
  LocalApic& apic = vm.apic(0);
  apic.write(kApicTimerDivide, 0xb);
  apic.write(kApicLvtTimer, 0x70);
  apic.write(kApicTimerInitial, 1000);
  EXPECT_EQ(apic.timer_deadline_ns(), 1000u);
  vm.set_time(400);
  EXPECT_EQ(apic.read(kApicTimerCurrent), 600u);
  apic.fire_timer_if_due();
  EXPECT_FALSE(interrupt_pending(vm.core(0)));
  vm.set_time(1000);
  apic.fire_timer_if_due();
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x70);
  EXPECT_EQ(apic.timer_deadline_ns(), TimerQueue::kNever);
  EXPECT_EQ(apic.read(kApicTimerCurrent), 0u);
}

TEST_F(LocalApicTest, DividerScalesTheCount) {
  vm.apic(0).write(kApicTimerDivide, 0x3);  // by 16
  vm.apic(0).write(kApicTimerInitial, 1000);
  EXPECT_EQ(vm.apic(0).timer_deadline_ns(), 16000u);
}

TEST_F(LocalApicTest, PeriodicTimerKeepsItsPhase) {
  LocalApic& apic = vm.apic(0);
  apic.write(kApicTimerDivide, 0xb);
  apic.write(kApicLvtTimer, kLvtPeriodic | 0x70);
  apic.write(kApicTimerInitial, 1'000'000);
  vm.set_time(2'300'000);
  apic.fire_timer_if_due();
  EXPECT_EQ(apic.timer_deadline_ns(), 3'000'000u);
}

TEST_F(LocalApicTest, HostilePeriodIsStretched) {
  LocalApic& apic = vm.apic(0);
  apic.write(kApicTimerDivide, 0xb);
  apic.write(kApicLvtTimer, kLvtPeriodic | 0x70);
  apic.write(kApicTimerInitial, 1);
  vm.set_time(10);
  apic.fire_timer_if_due();
  EXPECT_GE(apic.timer_deadline_ns(), 50'000u);
}

TEST_F(LocalApicTest, TscDeadlineCountsInGuestTsc) {
  LocalApic& apic = vm.apic(0);
  vm.core(0).msr.tsc_offset = 5000;
  apic.set_tsc_deadline(9000);
  EXPECT_EQ(apic.tsc_deadline(), 0u) << "ignored in the other modes";
  apic.write(kApicLvtTimer, kLvtTscDeadline | 0x71);
  apic.set_tsc_deadline(9000);
  EXPECT_EQ(apic.timer_deadline_ns(), 4000u);
  vm.core(0).msr.tsc_offset = 6000;
  apic.tsc_offset_changed();
  EXPECT_EQ(apic.timer_deadline_ns(), 3000u);
  vm.set_time(3000);
  apic.fire_timer_if_due();
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x71);
  EXPECT_EQ(apic.tsc_deadline(), 0u);
}

TEST_F(LocalApicTest, PastTscDeadlineFiresAtOnce) {
  vm.set_time(100);
  vm.apic(0).write(kApicLvtTimer, kLvtTscDeadline | 0x71);
  vm.apic(0).set_tsc_deadline(50);
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x71);
}

TEST_F(LocalApicTest, LeavingTscDeadlineModeDisarms) {
  vm.apic(0).write(kApicLvtTimer, kLvtTscDeadline | 0x71);
  vm.apic(0).set_tsc_deadline(~u64{0} - 1);
  vm.apic(0).write(kApicLvtTimer, 0x71);
  EXPECT_EQ(vm.apic(0).timer_deadline_ns(), TimerQueue::kNever);
}

TEST_F(LocalApicTest, StateComesBack) {
  LocalApic& apic = vm.apic(0);
  apic.write(kApicTimerDivide, 0xb);
  apic.write(kApicLvtTimer, 0x70);
  apic.write(kApicTimerInitial, 1000);
  deliver(0, 0x45);
  deliver(0, 0x55);
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x55);
  vm.set_time(300);
  cpu::ApicPage page;
  apic.export_page(page);

  TestChips other(1);
  other.set_time(10'000);
  other.apic(0).import_page(page);
  cpu::ApicPage again;
  other.apic(0).export_page(again);
  EXPECT_EQ(page, again);
  EXPECT_EQ(other.apic(0).timer_deadline_ns(), 10'700u);
  other.apic(0).write(kApicEoi, 0);
  EXPECT_EQ(take_interrupt(other.core(0)), 0x45);
}

TEST_F(LocalApicTest, BlankPageIsPowerOn) {
  deliver(0, 0x45);
  vm.apic(0).import_page(cpu::ApicPage{});
  EXPECT_FALSE(vm.apic(0).enabled());
  EXPECT_EQ(vm.apic(0).read(kApicVersion), 0x50014u);
}

TEST_F(LocalApicTest, PicReachesTheBootstrapProcessorOnly) {
  vm.apic(0).write(kApicLvtLint0, 0x700);
  memory::BusView ports(vm.ports);
  for (auto [port, value] : {std::pair(0x20, 0x11), {0x21, 0x30}, {0x21, 4}, {0x21, 1}, {0x21, 0}}) {
    ports.write(static_cast<u64>(port), static_cast<u64>(value), 1);
  }
  vm.chips->gsi(3).set(true);
  EXPECT_TRUE(vm.attends(0, kAttendInterrupt));
  EXPECT_FALSE(interrupt_pending(vm.core(1)));
  EXPECT_EQ(take_interrupt(vm.core(0)), 0x33);
  EXPECT_FALSE(interrupt_pending(vm.core(0)));
}

}  // namespace
}  // namespace atl::soft
