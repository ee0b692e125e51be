#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/test_tables.h"

namespace atl::soft {
namespace {

using M = SystemMachine;

class Selectors : public testing::Test {
 protected:
  Core& c() { return m.core(); }
  bool load(SegReg reg, u16 selector) {
    c().gpr[kRax] = selector;
    return m.call(sys_mov_to_sreg, {.src = kRax, .extra = reg});
  }
  bool zero_flag() { return c().rflags() & kZF; }
  SystemMachine m;
};

TEST_F(Selectors, RealModeKeepsTheLimit) {
  m.enter_real_mode();
  c().seg[kFs].limit = 0xffffffff;  // left from protected mode
  ASSERT_TRUE(load(kFs, 0x1234));
  EXPECT_EQ(c().seg[kFs].base, 0x12340u);
  EXPECT_EQ(c().seg[kFs].limit, 0xffffffffu);
}

TEST_F(Selectors, NullIsFineForDataButNotForStack) {
  m.go_protected();
  EXPECT_TRUE(load(kDs, 0));
  EXPECT_TRUE(c().seg[kDs].unusable);
  EXPECT_FALSE(load(kSs, 0));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(Selectors, DataNeedsPrivilegeAndPresence) {
  m.go_protected();
  m.go_user32();
  EXPECT_FALSE(load(kDs, M::kData0 | 3));
  EXPECT_FAULT(c(), kGP, M::kData0);
  m.descriptor(M::kSpare, 0xcf73, 0, 0xfffff);
  EXPECT_FALSE(load(kDs, M::kSpare | 3));
  EXPECT_FAULT(c(), kNP, M::kSpare);
}

TEST_F(Selectors, StackNeedsWritableDataOfThisLevel) {
  m.go_protected();
  EXPECT_FALSE(load(kSs, M::kCode32));
  EXPECT_FAULT(c(), kGP, M::kCode32);
  EXPECT_FALSE(load(kSs, M::kUserData));
  EXPECT_FAULT(c(), kGP, M::kUserData & ~3);
  m.descriptor(M::kSpare, 0xcf13, 0, 0xfffff);
  EXPECT_FALSE(load(kSs, M::kSpare));
  EXPECT_FAULT(c(), kSSFault, M::kSpare);
}

TEST_F(Selectors, LoadOfStackHoldsInterruptsBack) {
  ASSERT_TRUE(load(kSs, M::kData0));
  EXPECT_TRUE(c().interrupt_shadow);
  EXPECT_TRUE(c().attention & kAttendMode);
}

TEST_F(Selectors, SelectorBeyondTheTableFaults) {
  m.go_protected();
  EXPECT_FALSE(load(kDs, 0x100));
  EXPECT_FAULT(c(), kGP, 0x100);
  EXPECT_FALSE(load(kDs, 0xc)) << "no LDT";
  EXPECT_FAULT(c(), kGP, 0xc);
}

TEST_F(Selectors, CodeSegmentCannotBeMoved) {
  EXPECT_FALSE(load(kCs, M::kCode64));
  EXPECT_EQ(c().fault.vector, kUD);
}

TEST_F(Selectors, PopOfStackSegmentThatFaultsLeavesRsp) {
  m.go_protected();
  c().gpr[kRsp] = 0x9000;
  m.poke<u32>(0x9000, M::kCode32);
  EXPECT_FALSE(m.call(sys_pop_sreg, {.extra = kSs}));
  EXPECT_EQ(c().gpr[kRsp], 0x9000u);
}

TEST_F(Selectors, FarPointerLoadsBothOrNothing) {
  m.go_protected();
  m.poke<u32>(0x9000, 0x11223344);
  m.poke<u16>(0x9004, M::kData0);
  ASSERT_TRUE(m.call(sys_load_far_pointer, {.disp = 0x9000, .dst = kRbx, .addrsize = 4, .extra = kFs}));
  EXPECT_EQ(c().gpr[kRbx], 0x11223344u);
  m.poke<u16>(0x9004, 0x100);
  c().gpr[kRbx] = 7;
  EXPECT_FALSE(m.call(sys_load_far_pointer, {.disp = 0x9000, .dst = kRbx, .addrsize = 4, .extra = kFs}));
  EXPECT_EQ(c().gpr[kRbx], 7u);
}

TEST_F(Selectors, LarAndLslAnswerThroughZeroFlag) {
  c().gpr[kRax] = M::kData0;
  ASSERT_TRUE(m.call(sys_lar, {.dst = kRbx, .src = kRax}));
  EXPECT_TRUE(zero_flag());
  EXPECT_EQ(c().gpr[kRbx], 0xcf9300u);
  ASSERT_TRUE(m.call(sys_lsl, {.dst = kRbx, .src = kRax}));
  EXPECT_EQ(c().gpr[kRbx], 0xffffffffu);
  m.go_user64();
  ASSERT_TRUE(m.call(sys_lsl, {.dst = kRbx, .src = kRax}));
  EXPECT_FALSE(zero_flag());
  EXPECT_EQ(c().gpr[kRbx], 0xffffffffu);
}

TEST_F(Selectors, VerwWantsWritableData) {
  c().gpr[kRax] = M::kCode64;
  ASSERT_TRUE(m.call(sys_verr, {.dst = kRax}));
  EXPECT_TRUE(zero_flag());
  ASSERT_TRUE(m.call(sys_verw, {.dst = kRax}));
  EXPECT_FALSE(zero_flag());
}

TEST_F(Selectors, ArplRaisesRplOnly) {
  m.go_protected();
  c().gpr[kRax] = 0x10;
  c().gpr[kRbx] = 3;
  ASSERT_TRUE(m.call(sys_arpl, {.dst = kRax, .src = kRbx}));
  EXPECT_EQ(c().gpr[kRax], 0x13u);
  EXPECT_TRUE(zero_flag());
  ASSERT_TRUE(m.call(sys_arpl, {.dst = kRax, .src = kRbx}));
  EXPECT_FALSE(zero_flag());
}

TEST_F(Selectors, TaskRegisterBecomesBusy) {
  m.descriptor(M::kSpare, 0x0089, 0x9000, 0x67);
  m.poke<u64>(M::kGdt + M::kSpare + 8, 0xffff8000);
  c().gpr[kRax] = M::kSpare;
  ASSERT_TRUE(m.call(sys_ltr, {.dst = kRax}));
  EXPECT_EQ(c().tr.base, 0xffff800000009000);
  EXPECT_EQ(m.peek<u8>(M::kGdt + M::kSpare + 5), 0x8b);
  EXPECT_FALSE(m.call(sys_ltr, {.dst = kRax}));
  EXPECT_FAULT(c(), kGP, M::kSpare);
}

TEST_F(Selectors, TableInstructionsUseTenBytesIn64BitMode) {
  m.poke<u16>(0x9000, 0x1ff);
  m.poke<u64>(0x9002, 0xffff800000005000);
  ASSERT_TRUE(m.call(sys_lgdt, {.disp = 0x9000}));
  EXPECT_EQ(c().gdtr, (DescriptorTable{0xffff800000005000, 0x1ff}));
  ASSERT_TRUE(m.call(sys_sgdt, {.disp = 0x9100}));
  EXPECT_EQ(m.peek<u64>(0x9102), 0xffff800000005000);
  m.poke<u64>(0x9002, u64{1} << 47);
  EXPECT_FALSE(m.call(sys_lidt, {.disp = 0x9000}));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(Selectors, SegmentBasesNeedTheirEnableBit) {
  EXPECT_FALSE(m.call(sys_wrgsbase, {.opsize = 8, .src = kRax}));
  EXPECT_EQ(c().fault.vector, kUD);
  c().cr4 |= kCr4FSGSBASE;
  c().gpr[kRax] = 0xffff800000000000;
  ASSERT_TRUE(m.call(sys_wrgsbase, {.opsize = 8, .src = kRax}));
  c().msr.kernel_gs_base = 0x1234;
  ASSERT_TRUE(m.call(sys_swapgs, {}));
  ASSERT_TRUE(m.call(sys_rdgsbase, {.opsize = 8, .dst = kRbx}));
  EXPECT_EQ(c().gpr[kRbx], 0x1234u);
  EXPECT_EQ(c().msr.kernel_gs_base, 0xffff800000000000);
}

}  // namespace
}  // namespace atl::soft
