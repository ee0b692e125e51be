#include "cpu/soft/system/task_switch.h"

#include "cpu/soft/system/test_tables.h"

namespace atl::soft {
namespace {

using M = SystemMachine;

class Tasks : public testing::Test {
 protected:
  static constexpr u64 kNewTss = 0x9000;
  Tasks() {
    m.go_protected();
    m.descriptor(M::kTssSelector, 0x008b, M::kTss, 0x67);
    m.descriptor(M::kSpare, 0x0089, kNewTss, 0x67);
    m.poke<u32>(kNewTss + 0x20, 0x5000);   // EIP
    m.poke<u32>(kNewTss + 0x24, 0x202);    // EFLAGS
    m.poke<u32>(kNewTss + 0x28, 0x11);     // EAX
    m.poke<u32>(kNewTss + 0x38, 0x26000);  // ESP
    const u16 selectors[] = {M::kData0, M::kCode32, M::kData0, M::kData0, 0, 0};
    for (unsigned i = 0; i < 6; ++i) m.poke<u32>(kNewTss + 0x48 + i * 4, selectors[i]);
    c().rip = 0x3000;
    c().gpr[kRax] = 0x99;
  }
  Core& c() { return m.core(); }
  u8 type_of(u16 selector) { return m.peek<u8>(M::kGdt + selector + 5) & 15; }
  bool call_task(u16 selector = M::kSpare) { return m.call(sys_call_far_ptr, {.imm = u64{selector} << 32, .opsize = 4}, 7); }
  SystemMachine m;
};

TEST_F(Tasks, CallNestsAndIretReturns) {
  ASSERT_TRUE(call_task());
  EXPECT_EQ(c().rip, 0x5000u);
  EXPECT_EQ(c().gpr[kRax], 0x11u);
  EXPECT_EQ(c().gpr[kRsp], 0x26000u);
  EXPECT_TRUE(c().rflags() & kNT);
  EXPECT_TRUE(c().cr0 & kCr0TS);
  EXPECT_EQ(c().tr.selector, M::kSpare);
  EXPECT_EQ(m.peek<u16>(kNewTss), M::kTssSelector);
  EXPECT_EQ(m.peek<u32>(M::kTss + 0x20), 0x3007u);
  EXPECT_EQ(type_of(M::kSpare), kTss32Busy);
  EXPECT_EQ(type_of(M::kTssSelector), kTss32Busy);

  ASSERT_TRUE(m.call(sys_iret, {.opsize = 4}));
  EXPECT_EQ(c().rip, 0x3007u);
  EXPECT_EQ(c().gpr[kRax], 0x99u);
  EXPECT_EQ(c().tr.selector, M::kTssSelector);
  EXPECT_EQ(type_of(M::kSpare), kTss32);
  EXPECT_FALSE(c().rflags() & kNT);
}

TEST_F(Tasks, JumpFreesTheOldTask) {
  ASSERT_TRUE(m.call(sys_jmp_far_ptr, {.imm = u64{M::kSpare} << 32, .opsize = 4}));
  EXPECT_EQ(type_of(M::kTssSelector), kTss32);
  EXPECT_EQ(type_of(M::kSpare), kTss32Busy);
  EXPECT_FALSE(c().rflags() & kNT);
}

TEST_F(Tasks, BusyTaskIsRefused) {
  EXPECT_FALSE(call_task(M::kTssSelector));
  EXPECT_FAULT(c(), kGP, M::kTssSelector);
}

TEST_F(Tasks, SmallTssIsInvalid) {
  m.descriptor(M::kSpare, 0x0089, kNewTss, 0x66);
  EXPECT_FALSE(call_task());
  EXPECT_FAULT(c(), kTS, M::kSpare);
  EXPECT_EQ(c().rip, 0x3000u);
}

TEST_F(Tasks, BadStackOfTheNewTaskFaultsInTheNewTask) {
  m.poke<u32>(kNewTss + 0x50, M::kUserData);
  EXPECT_FALSE(call_task());
  EXPECT_FAULT(c(), kTS, M::kUserData & ~3);
  EXPECT_EQ(c().rip, 0x5000u);
  EXPECT_EQ(c().tr.selector, M::kSpare);
}

TEST_F(Tasks, ExceptionThroughTaskGatePushesItsError) {
  m.poke<u64>(M::kIdt + kDFault * 8, u64{M::kSpare} << 16 | u64{0x85} << 40);
  c().raise(kDFault, 0);
  ASSERT_TRUE(deliver_exception(c()));
  EXPECT_EQ(c().rip, 0x5000u);
  EXPECT_EQ(c().gpr[kRsp], 0x26000u - 4);
  EXPECT_EQ(m.peek<u32>(M::kTss + 0x20), 0x3000u);
}

TEST_F(Tasks, SixteenBitTssLoadsWords) {
  m.descriptor(M::kSpare, 0x0081, kNewTss, 0x2b);
  m.poke<u16>(kNewTss + 0x0e, 0x4000);
  m.poke<u16>(kNewTss + 0x10, 2);
  m.poke<u16>(kNewTss + 0x12, 0x1234);
  const u16 selectors[] = {M::kData0, M::kCode32, M::kData0, M::kData0, 0};
  for (unsigned i = 0; i < 5; ++i) m.poke<u16>(kNewTss + 0x22 + i * 2, selectors[i]);
  ASSERT_TRUE(call_task());
  EXPECT_EQ(c().rip, 0x4000u);
  EXPECT_EQ(c().gpr[kRax], 0xffff1234u);
}

}  // namespace
}  // namespace atl::soft
