#include "cpu/soft/system/far_return.h"
#include "cpu/soft/system/test_tables.h"

namespace atl::soft {
namespace {

using M = SystemMachine;

u64 pointer(u16 selector, u32 offset) { return u64{selector} << 32 | offset; }

class FarTransfer : public testing::Test {
 protected:
  Core& c() { return m.core(); }
  void call_gate32(u16 slot, u16 selector, u32 offset, u8 dpl, u8 parameters) {
    m.poke<u64>(M::kGdt + slot, (offset & 0xffff) | u64{selector} << 16 | u64{parameters} << 32 |
                                    u64{0x80u | dpl << 5 | kCallGate32} << 40 | u64{offset >> 16} << 48);
  }
  SystemMachine m;
};

TEST_F(FarTransfer, RealModeCallPushesAndLoadsBase) {
  m.enter_real_mode();
  c().gpr[kRsp] = 0x8000;
  c().rip = 0x100;
  ASSERT_TRUE(m.call(sys_call_far_ptr, {.imm = pointer(0x1234, 0x10), .opsize = 2}, 5));
  EXPECT_EQ(c().seg[kCs].base, 0x12340u);
  EXPECT_EQ(c().rip, 0x10u);
  EXPECT_EQ(m.peek<u16>(0x7ffc), 0x105);
  ASSERT_TRUE(m.call(sys_ret_far, {.imm = 2, .opsize = 2}));
  EXPECT_EQ(c().gpr[kRsp], 0x8002u);
  EXPECT_EQ(c().seg[kCs].base, 0u);
}

TEST_F(FarTransfer, JumpToDataSegmentIsRefused) {
  m.go_protected();
  EXPECT_FALSE(m.call(sys_jmp_far_ptr, {.imm = pointer(M::kData0, 0)}));
  EXPECT_FAULT(c(), kGP, M::kData0);
}

TEST_F(FarTransfer, JumpBeyondLimitIsRefused) {
  m.go_protected();
  EXPECT_FALSE(m.call(sys_jmp_far_ptr, {.imm = pointer(M::kCode16, 0x10000)}));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(FarTransfer, AbsentCodeSegmentIsNotPresent) {
  m.go_protected();
  m.descriptor(M::kSpare, 0xcf1b, 0, 0xfffff);
  EXPECT_FALSE(m.call(sys_jmp_far_ptr, {.imm = pointer(M::kSpare, 0)}));
  EXPECT_FAULT(c(), kNP, M::kSpare);
}

TEST_F(FarTransfer, JumpSetsTheAccessedBit) {
  m.go_protected();
  m.descriptor(M::kSpare, 0xcf9a, 0, 0xfffff);
  ASSERT_TRUE(m.call(sys_jmp_far_ptr, {.imm = pointer(M::kSpare, 0x1000)}));
  EXPECT_EQ(m.peek<u8>(M::kGdt + M::kSpare + 5), 0x9b);
}

TEST_F(FarTransfer, CallGateCopiesParametersToTheInnerStack) {
  m.go_protected();
  call_gate32(M::kSpare, M::kCode32, 0x4000, 3, 2);
  m.go_user32();
  c().gpr[kRsp] = 0x9000;
  m.poke<u32>(0x9000, 0xaaaa);
  m.poke<u32>(0x9004, 0xbbbb);
  c().rip = 0x2000;
  ASSERT_TRUE(m.call(sys_call_far_ptr, {.imm = pointer(M::kSpare | 3, 0)}, 7));
  EXPECT_EQ(c().cpl, 0);
  EXPECT_EQ(c().rip, 0x4000u);
  EXPECT_EQ(c().gpr[kRsp], M::kRing0Stack - 24);
  EXPECT_EQ(m.stack32(0), 0x2007u);
  EXPECT_EQ(m.stack32(1), M::kUserCode32);
  EXPECT_EQ(m.stack32(2), 0xaaaau);
  EXPECT_EQ(m.stack32(3), 0xbbbbu);
  EXPECT_EQ(m.stack32(4), 0x9000u);

  ASSERT_TRUE(m.call(sys_ret_far, {.imm = 8}));
  EXPECT_EQ(c().cpl, 3);
  EXPECT_EQ(c().rip, 0x2007u);
  EXPECT_EQ(c().gpr[kRsp], 0x9008u);
}

TEST_F(FarTransfer, ReturnOutwardsNullsInnerDataSegments) {
  m.go_protected();
  c().gpr[kRsp] = 0x9000;
  m.poke<u32>(0x9000, 0x2000);
  m.poke<u32>(0x9004, M::kUserCode32);
  m.poke<u32>(0x9008, 0xa000);
  m.poke<u32>(0x900c, M::kUserData);
  ASSERT_TRUE(m.call(sys_ret_far, {}));
  EXPECT_TRUE(c().seg[kDs].unusable);
  EXPECT_EQ(c().seg[kDs].selector, 0);
  EXPECT_EQ(c().gpr[kRsp], 0xa000u);
}

TEST_F(FarTransfer, ReturnInwardsIsRefused) {
  m.go_protected();
  m.go_user32();
  c().gpr[kRsp] = 0x9000;
  m.poke<u32>(0x9000, 0x2000);
  m.poke<u32>(0x9004, M::kCode32);
  EXPECT_FALSE(m.call(sys_ret_far, {}));
  EXPECT_FAULT(c(), kGP, M::kCode32);
  EXPECT_EQ(c().gpr[kRsp], 0x9000u);
}

TEST_F(FarTransfer, LongModeReturnsToCompatibilityCode) {
  c().gpr[kRsp] = 0x9000;
  m.poke<u64>(0x9000, 0x2000);
  m.poke<u64>(0x9008, M::kUserCode32);
  m.poke<u64>(0x9010, 0x202);
  m.poke<u64>(0x9018, 0xa000);
  m.poke<u64>(0x9020, M::kUserData);
  ASSERT_TRUE(m.call(sys_iret, {.opsize = 8}));
  EXPECT_EQ(c().code_size, CodeSize::k32);
  EXPECT_EQ(c().cpl, 3);
  EXPECT_EQ(c().gpr[kRsp], 0xa000u);
}

TEST_F(FarTransfer, ReturnOutwardsClearsTheRplOfNullSelectors) {
  c().seg[kFs] = null_segment(3);
  c().seg[kFs].base = 0x12345000;
  c().seg[kDs] = null_segment(3);
  c().gpr[kRsp] = 0x9000;
  for (int i = 0; u64 word : {u64{0x2000}, u64{M::kUserCode64}, u64{0x202}, u64{0xa000}, u64{M::kUserData}}) m.poke<u64>(0x9000 + 8 * i++, word);
  ASSERT_TRUE(m.call(sys_iret, {.opsize = 8}));
  EXPECT_EQ(c().seg[kDs].selector, 0);
  EXPECT_EQ(c().seg[kFs].selector, 0);
  EXPECT_EQ(c().seg[kFs].base, 0x12345000u);
}

TEST_F(FarTransfer, IretToNonCanonicalAddressFaultsBeforeTheSwitch) {
  c().gpr[kRsp] = 0x9000;
  m.poke<u64>(0x9000, 0x0000800000000000);
  m.poke<u64>(0x9008, M::kUserCode64);
  m.poke<u64>(0x9010, 2);
  m.poke<u64>(0x9018, 0xa000);
  m.poke<u64>(0x9020, M::kUserData);
  EXPECT_FALSE(m.call(sys_iret, {.opsize = 8}));
  EXPECT_FAULT(c(), kGP, 0);
  EXPECT_EQ(c().cpl, 0);
}

TEST_F(FarTransfer, IretAllowsNullSsInsideRing0Only) {
  c().gpr[kRsp] = 0x9000;
  m.poke<u64>(0x9000, 0x2000);
  m.poke<u64>(0x9008, M::kCode64);
  m.poke<u64>(0x9010, 2);
  m.poke<u64>(0x9018, 0xa000);
  m.poke<u64>(0x9020, 0);
  ASSERT_TRUE(m.call(sys_iret, {.opsize = 8}));
  EXPECT_TRUE(c().seg[kSs].unusable);
  c().gpr[kRsp] = 0x9000;
  m.poke<u64>(0x9008, M::kUserCode64);
  EXPECT_FALSE(m.call(sys_iret, {.opsize = 8}));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(FarTransfer, UserIretCannotTouchIoplOrIf) {
  m.go_protected();
  m.go_user32();
  c().gpr[kRsp] = 0x9000;
  m.poke<u32>(0x9000, 0x2000);
  m.poke<u32>(0x9004, M::kUserCode32);
  m.poke<u32>(0x9008, 0x3202);
  ASSERT_TRUE(m.call(sys_iret, {.opsize = 4}));
  EXPECT_EQ(c().rflags(), 2u);
}

TEST_F(FarTransfer, SyscallAndSysretSwitchWithoutTables) {
  c().gdtr.limit = 0;
  c().msr.star = u64{0x23 - 3} << 48 | u64{M::kCode64} << 32;
  c().msr.lstar = 0xffffffff81000000;
  c().msr.sfmask = kIF;
  m.go_user64();
  c().set_rflags(0x202);
  c().rip = 0x1000;
  ASSERT_TRUE(m.call(sys_syscall, {}));
  EXPECT_EQ(c().rip, 0xffffffff81000000);
  EXPECT_EQ(c().gpr[kRcx], 0x1002u);
  EXPECT_EQ(c().gpr[kR11], 0x202u);
  EXPECT_EQ(c().cpl, 0);
  EXPECT_FALSE(c().rflags() & kIF);
  ASSERT_TRUE(m.call(sys_sysret, {.opsize = 8}));
  EXPECT_EQ(c().rip, 0x1002u);
  EXPECT_EQ(c().cpl, 3);
  EXPECT_EQ(c().seg[kCs].selector, 0x33);
  EXPECT_TRUE(c().rflags() & kIF);
}

TEST_F(FarTransfer, SysretToNonCanonicalAddressFaultsInRing0) {
  c().gpr[kRcx] = 0x0000800000000000;
  EXPECT_FALSE(m.call(sys_sysret, {.opsize = 8}));
  EXPECT_FAULT(c(), kGP, 0);
  EXPECT_EQ(c().cpl, 0);
}

TEST_F(FarTransfer, SysenterAndSysexitUseTheirMsrs) {
  c().msr.sysenter_cs = M::kCode64;
  c().msr.sysenter_eip = 0x7000;
  c().msr.sysenter_esp = 0x26000;
  m.go_user64();
  ASSERT_TRUE(m.call(sys_sysenter, {}));
  EXPECT_EQ(c().rip, 0x7000u);
  EXPECT_EQ(c().gpr[kRsp], 0x26000u);
  EXPECT_EQ(c().cpl, 0);
  c().gpr[kRdx] = 0x1111;
  c().gpr[kRcx] = 0x2222;
  ASSERT_TRUE(m.call(sys_sysexit, {.opsize = 4}));
  EXPECT_EQ(c().rip, 0x1111u);
  EXPECT_EQ(c().cpl, 3);
  EXPECT_EQ(c().code_size, CodeSize::k32);
}

}  // namespace
}  // namespace atl::soft
