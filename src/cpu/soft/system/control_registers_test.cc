#include "cpu/soft/system/control_registers.h"

#include "cpu/soft/system/test_tables.h"

namespace atl::soft {
namespace {

using M = SystemMachine;

class ControlRegisters : public testing::Test {
 protected:
  Core& c() { return m.core(); }
  bool mov_to_cr(u8 number, u64 value) {
    c().gpr[kRax] = value;
    return m.call(sys_mov_to_cr, {.opsize = 8, .src = kRax, .extra = number});
  }
  bool xsetbv(u64 value) {
    c().gpr[kRax] = value & 0xffffffff;
    c().gpr[kRdx] = value >> 32;
    c().gpr[kRcx] = 0;
    return m.call(sys_xsetbv, {});
  }
  SystemMachine m;
};

TEST_F(ControlRegisters, UserCodeMayNotTouchThem) {
  m.go_user64();
  EXPECT_FALSE(mov_to_cr(3, 0));
  EXPECT_FAULT(c(), kGP, 0);
  EXPECT_FALSE(m.call(sys_mov_from_cr, {.dst = kRax, .extra = 0}));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(ControlRegisters, UnknownNumberIsUndefined) {
  EXPECT_FALSE(mov_to_cr(5, 0));
  EXPECT_EQ(c().fault.vector, kUD);
}

TEST_F(ControlRegisters, PagingNeedsProtection) {
  EXPECT_FALSE(write_cr0(c(), kCr0PG | kCr0ET));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(ControlRegisters, LongModeCannotDropPagingFrom64BitCodeNorPae) {
  EXPECT_FALSE(write_cr0(c(), c().cr0 & ~u64{kCr0PG}));
  EXPECT_FALSE(write_cr4(c(), c().cr4 & ~u64{kCr4PAE}));
}

TEST_F(ControlRegisters, EnteringAndLeavingLongModeFollowsPaging) {
  m.go_protected();
  ASSERT_TRUE(write_efer(c(), kEferLME));
  EXPECT_FALSE(write_cr0(c(), c().cr0 | kCr0PG)) << "without PAE";
  ASSERT_TRUE(write_cr4(c(), kCr4PAE));
  ASSERT_TRUE(write_cr0(c(), c().cr0 | kCr0PG));
  EXPECT_TRUE(c().efer & kEferLMA);
  EXPECT_EQ(c().code_size, CodeSize::k32);
  EXPECT_FALSE(write_efer(c(), 0)) << "LME while paging";
  ASSERT_TRUE(m.call(sys_jmp_far_ptr, {.imm = u64{M::kCode64} << 32 | 0x1000}));
  EXPECT_EQ(c().code_size, CodeSize::k64);
  c().seg[kCs] = {.selector = M::kCode32, .attributes = 0xc09b, .limit = 0xffffffff};
  update_mode(c());
  ASSERT_TRUE(write_cr0(c(), c().cr0 & ~u64{kCr0PG}));
  EXPECT_FALSE(c().efer & kEferLMA);
}

TEST_F(ControlRegisters, Cr3ReservedBitsFault) {
  EXPECT_FALSE(mov_to_cr(3, u64{1} << 60));
  EXPECT_FAULT(c(), kGP, 0);
  EXPECT_FALSE(mov_to_cr(3, u64{1} << 63 | M::kPageTables)) << "no-flush bit without PCIDE";
}

TEST_F(ControlRegisters, PcidNeedsLongModeAndAcceptsTheNoFlushBit) {
  if (!(cr4_mask(c()) & kCr4PCIDE)) GTEST_SKIP() << "this host has no PCID";
  c().cr3 |= 5;
  EXPECT_FALSE(write_cr4(c(), c().cr4 | kCr4PCIDE)) << "CR3 names a PCID already";
  c().cr3 &= ~u64{0xfff};
  ASSERT_TRUE(write_cr4(c(), c().cr4 | kCr4PCIDE));
  ASSERT_TRUE(mov_to_cr(3, u64{1} << 63 | M::kPageTables | 7));
  EXPECT_EQ(c().cr3, M::kPageTables | 7);
}

TEST_F(ControlRegisters, VirtualMachineExtensionsOfV86ModeAreNotThere) {
  EXPECT_FALSE(write_cr4(c(), c().cr4 | kCr4VME));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(ControlRegisters, LmswSetsButNeverClearsProtection) {
  m.enter_real_mode();
  c().gpr[kRax] = 1;
  ASSERT_TRUE(m.call(sys_lmsw, {.dst = kRax}));
  EXPECT_TRUE(c().cr0 & kCr0PE);
  c().gpr[kRax] = 0;
  ASSERT_TRUE(m.call(sys_lmsw, {.dst = kRax}));
  EXPECT_TRUE(c().cr0 & kCr0PE);
}

TEST_F(ControlRegisters, ProtectionDoesNotRaiseCplOfRealModeSelectors) {
  m.enter_real_mode();
  c().seg[kCs].selector = 0x1003;
  c().seg[kSs].selector = 0x9003;
  ASSERT_TRUE(write_cr0(c(), c().cr0 | kCr0PE));
  EXPECT_EQ(c().cpl, 0);
}

TEST_F(ControlRegisters, XcrWantsX87AndSseBelowAvx) {
  EXPECT_FALSE(xsetbv(0));
  EXPECT_FALSE(xsetbv(5));
  EXPECT_FALSE(xsetbv(u64{1} << 62 | 1));
  EXPECT_TRUE(xsetbv(3));
  EXPECT_EQ(c().xcr0, 3u);
}

TEST_F(ControlRegisters, UmipHidesMswFromUsers) {
  c().cr4 |= kCr4UMIP;
  m.go_user64();
  EXPECT_FALSE(m.call(sys_smsw, {.dst = kRax}));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(ControlRegisters, DebugRegistersKeepTheirFixedBits) {
  c().gpr[kRax] = 0;
  ASSERT_TRUE(m.call(sys_mov_to_dr, {.src = kRax, .extra = 6}));
  EXPECT_EQ(c().dr6, 0xffff0ff0u);
  c().gpr[kRax] = 0xffffffff;
  ASSERT_TRUE(m.call(sys_mov_to_dr, {.src = kRax, .extra = 7}));
  EXPECT_EQ(c().dr7, 0xffff2fffu);
  c().dr7 = 0x400;
  c().cr4 |= kCr4DE;
  EXPECT_FALSE(m.call(sys_mov_to_dr, {.src = kRax, .extra = 5}));
  EXPECT_EQ(c().fault.vector, kUD);
}

}  // namespace
}  // namespace atl::soft
