#include "cpu/soft/system/events.h"

#include "cpu/soft/system/test_tables.h"

namespace atl::soft {
namespace {

using M = SystemMachine;

class Events : public testing::Test {
 protected:
  Core& c() { return m.core(); }
  bool raise_and_deliver(u8 vector, u32 error) {
    c().raise(vector, error);
    return deliver_exception(c());
  }
  SystemMachine m;
};

TEST_F(Events, LongModeFrameHoldsEverythingOnAnAlignedStack) {
  m.gate64(kGP, M::kCode64, 0xffff800000001000);
  c().gpr[kRsp] = 0x1fff9;
  c().rip = 0x1234;
  c().set_rflags(0x202);
  ASSERT_TRUE(raise_and_deliver(kGP, 0x18));
  EXPECT_EQ(c().rip, 0xffff800000001000);
  EXPECT_EQ(c().gpr[kRsp], 0x1fff0u - 48);
  EXPECT_EQ(m.stack64(0), 0x18u);
  EXPECT_EQ(m.stack64(1), 0x1234u);
  EXPECT_EQ(m.stack64(2), M::kCode64);
  EXPECT_EQ(m.stack64(3), 0x202u | kRF);
  EXPECT_EQ(m.stack64(4), 0x1fff9u);
  EXPECT_EQ(m.stack64(5), M::kData0);
  EXPECT_EQ(c().rflags(), 2u);
  EXPECT_FALSE(c().fault_pending);
}

TEST_F(Events, TrapGateKeepsInterruptsOn) {
  m.gate64(kBP, M::kCode64, 0x1000, kTrapGate32);
  c().set_rflags(0x202);
  ASSERT_TRUE(m.call(sys_int3, {}, 1));
  EXPECT_TRUE(c().rflags() & kIF);
}

TEST_F(Events, UserFaultSwitchesToRing0StackWithNullSs) {
  m.gate64(kUD, M::kCode64, 0x1000);
  m.go_user64();
  c().gpr[kRsp] = 0x9000;
  c().raise(kUD);
  ASSERT_TRUE(deliver_exception(c()));
  EXPECT_EQ(c().cpl, 0);
  EXPECT_EQ(c().seg[kSs].selector, 0);
  EXPECT_EQ(c().gpr[kRsp], M::kRing0Stack - 40);
  EXPECT_EQ(m.stack64(3), 0x9000u);
  EXPECT_EQ(m.stack64(4), M::kUserData);
}

TEST_F(Events, IstChoosesTheStackEvenWithoutPrivilegeChange) {
  m.gate64(kDFault, M::kCode64, 0x1000, kInterruptGate32, 0, 2);
  m.poke<u64>(M::kTss + 0x24 + 8, 0x2a000);
  ASSERT_TRUE(raise_and_deliver(kDFault, 0));
  EXPECT_EQ(c().gpr[kRsp], 0x2a000u - 48);
}

TEST_F(Events, PageFaultSetsCr2) {
  m.gate64(kPFault, M::kCode64, 0x1000);
  c().raise(kPFault, kPfW);
  c().fault.address = 0xdead000;
  ASSERT_TRUE(deliver_exception(c()));
  EXPECT_EQ(c().cr2, 0xdead000u);
  EXPECT_EQ(m.stack64(0), static_cast<u64>(kPfW));
}

TEST_F(Events, AbsentGateIsNotPresentWithVectorAndExt) {
  m.gate64(kNP, M::kCode64, 0x1000);
  m.gate64(0x21, M::kCode64, 0x2000);
  m.poke<u64>(M::kIdt + 0x21 * 16, m.peek<u64>(M::kIdt + 0x21 * 16) & ~(u64{1} << 47));
  ASSERT_TRUE(deliver_interrupt(c(), 0x21));
  EXPECT_EQ(c().rip, 0x1000u);
  EXPECT_EQ(m.stack64(0), 0x21u * 8 + 2 + 1);
}

TEST_F(Events, ContributoryFaultsMakeADoubleFault) {
  m.gate64(kDFault, M::kCode64, 0x3000);
  ASSERT_TRUE(raise_and_deliver(kGP, 0x40));  // its own gate is absent: #NP
  EXPECT_EQ(c().rip, 0x3000u);
  EXPECT_EQ(m.stack64(0), 0u);
}

TEST_F(Events, FaultInBenignDeliveryIsDeliveredItself) {
  m.gate64(kGP, M::kCode64, 0x3000);
  c().idtr.limit = 14 * 16 - 1;
  ASSERT_TRUE(deliver_interrupt(c(), 0x80));
  EXPECT_EQ(c().rip, 0x3000u);
}

TEST_F(Events, FaultInDoubleFaultDeliveryShutsDown) {
  c().idtr.limit = 0;
  EXPECT_FALSE(raise_and_deliver(kGP, 0));
  EXPECT_FALSE(c().fault_pending);
}

TEST_F(Events, SoftwareIntNeedsGateDpl) {
  m.gate64(0x80, M::kCode64, 0x1000);
  m.go_user64();
  EXPECT_FALSE(m.call(sys_int, {.imm = 0x80}));
  EXPECT_FAULT(c(), kGP, 0x80 * 8 + 2);
  EXPECT_EQ(c().cpl, 3);
  m.gate64(0x80, M::kCode64, 0x1000, kInterruptGate32, 3);
  c().rip = 0x5000;
  ASSERT_TRUE(m.call(sys_int, {.imm = 0x80}));
  EXPECT_EQ(m.stack64(0), 0x5002u);
}

TEST_F(Events, LongModeRefusesGatesInto32BitCode) {
  m.gate64(0x80, M::kCode32, 0x1000);
  EXPECT_FALSE(m.call(sys_int, {.imm = 0x80}));
  EXPECT_FAULT(c(), kGP, M::kCode32);
}

TEST_F(Events, NmiMasksFurtherOnesUntilIret) {
  m.gate64(kNMI, M::kCode64, 0x1000);
  ASSERT_TRUE(deliver_nmi(c()));
  EXPECT_TRUE(c().nmi_masked);
  ASSERT_TRUE(m.call(sys_iret, {.opsize = 8}));
  EXPECT_FALSE(c().nmi_masked);
}

TEST_F(Events, DebugExceptionSetsDr6AndClearsGd) {
  m.gate64(kDB, M::kCode64, 0x1000);
  c().dr7 |= 1 << 13;
  EXPECT_FALSE(m.call(sys_mov_from_dr, {.dst = kRax, .extra = 0}));
  EXPECT_EQ(c().fault.vector, kDB);
  ASSERT_TRUE(deliver_exception(c()));
  EXPECT_TRUE(c().dr6 & 1 << 13);
  EXPECT_FALSE(c().dr7 & 1 << 13);
  EXPECT_FALSE(m.stack64(2) & kRF);
}

// -- protected mode ------------------------------------------------------------------------------------------------------------

class ProtectedEvents : public Events {
 protected:
  ProtectedEvents() { m.go_protected(); }
};

TEST_F(ProtectedEvents, SameLevelFrameHasNoStack) {
  m.gate32(kGP, M::kCode32, 0x1000);
  c().rip = 0x4321;
  ASSERT_TRUE(raise_and_deliver(kGP, 8));
  EXPECT_EQ(c().gpr[kRsp], M::kStack - 16);
  EXPECT_EQ(m.stack32(0), 8u);
  EXPECT_EQ(m.stack32(1), 0x4321u);
  EXPECT_EQ(m.stack32(2), M::kCode32);
}

TEST_F(ProtectedEvents, InnerLevelTakesStackFromTss) {
  m.gate32(kUD, M::kCode32, 0x1000);
  m.go_user32();
  c().gpr[kRsp] = 0x9000;
  c().raise(kUD);
  ASSERT_TRUE(deliver_exception(c()));
  EXPECT_EQ(c().gpr[kRsp], M::kRing0Stack - 20);
  EXPECT_EQ(c().seg[kSs].selector, M::kData0);
  EXPECT_EQ(m.stack32(3), 0x9000u);
  EXPECT_EQ(m.stack32(4), M::kUserData);
  EXPECT_EQ(c().cpl, 0);
}

TEST_F(ProtectedEvents, BadRing0StackIsInvalidTss) {
  m.gate32(0x80, M::kCode32, 0x1000, kInterruptGate32, 3);
  m.poke<u32>(M::kTss + 8, M::kUserData);
  m.go_user32();
  EXPECT_FALSE(m.call(sys_int, {.imm = 0x80}));
  EXPECT_FAULT(c(), kTS, M::kUserData & ~3);
}

TEST_F(ProtectedEvents, SixteenBitGatePushesWords) {
  m.gate32(0x80, M::kCode32, 0x12345678, kInterruptGate16);
  c().rip = 0x4000;
  ASSERT_TRUE(m.call(sys_int, {.imm = 0x80}));
  EXPECT_EQ(c().rip, 0x5678u);
  EXPECT_EQ(c().gpr[kRsp], M::kStack - 6);
  EXPECT_EQ(m.peek<u16>(c().gpr[kRsp]), 0x4002);
}

TEST_F(ProtectedEvents, V86InterruptSavesAndClearsDataSegments) {
  m.gate32(0x20, M::kCode32, 0x1000);
  c().other_flags |= kVM | kIF;
  for (u8 i = 0; i < kSegCount; ++i) c().seg[i] = {.selector = static_cast<u16>(0x100 + i), .attributes = 0xf3, .limit = 0xffff,
                                                   .base = (0x100u + i) << 4};
  update_mode(c());
  ASSERT_EQ(c().cpl, 3);
  c().rip = 0x77;
  c().gpr[kRsp] = 0x8000;
  ASSERT_TRUE(deliver_interrupt(c(), 0x20));
  EXPECT_EQ(c().gpr[kRsp], M::kRing0Stack - 36);
  EXPECT_EQ(m.stack32(0), 0x77u);
  EXPECT_EQ(m.stack32(1), 0x100u + kCs);
  EXPECT_TRUE(m.stack32(2) & kVM);
  EXPECT_EQ(m.stack32(3), 0x8000u);
  EXPECT_EQ(m.stack32(4), 0x100u + kSs);
  EXPECT_EQ(m.stack32(5), 0x100u + kEs);
  EXPECT_EQ(m.stack32(8), 0x100u + kGs);
  EXPECT_TRUE(c().seg[kDs].unusable);
  EXPECT_FALSE(c().rflags() & kVM);
  ASSERT_TRUE(m.call(sys_iret, {.opsize = 4}));
  EXPECT_EQ(c().rip, 0x77u);
  EXPECT_EQ(c().seg[kGs].base, (0x100u + kGs) << 4);
  EXPECT_EQ(c().gpr[kRsp], 0x8000u);
  EXPECT_TRUE(c().rflags() & kVM);
}

TEST_F(ProtectedEvents, V86IntNeedsIopl3) {
  m.gate32(0x21, M::kCode32, 0x1000, kInterruptGate32, 3);
  c().other_flags |= kVM;
  update_mode(c());
  EXPECT_FALSE(m.call(sys_int, {.imm = 0x21}));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(ProtectedEvents, RealModeUsesTheVectorTable) {
  m.enter_real_mode();
  m.poke<u32>(0x10 * 4, 0xf0001234);
  c().gpr[kRsp] = 0x8000;
  c().rip = 0x100;
  c().set_rflags(0x202);
  ASSERT_TRUE(m.call(sys_int, {.imm = 0x10}));
  EXPECT_EQ(c().rip, 0x1234u);
  EXPECT_EQ(c().seg[kCs].base, 0xf0000u);
  EXPECT_EQ(m.peek<u16>(0x7ffa), 0x102);
  EXPECT_EQ(m.peek<u16>(0x7ffe), 0x202);
  ASSERT_TRUE(m.call(sys_iret, {.opsize = 2}));
  EXPECT_EQ(c().rip, 0x102u);
  EXPECT_EQ(c().gpr[kRsp], 0x8000u);
  EXPECT_TRUE(c().rflags() & kIF);
}

}  // namespace
}  // namespace atl::soft
