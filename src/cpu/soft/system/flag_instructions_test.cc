#include "cpu/soft/system/debug.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/io_permission.h"
#include "cpu/soft/system/test_tables.h"

namespace atl::soft {
namespace {

using M = SystemMachine;

class Flags : public testing::Test {
 protected:
  Core& c() { return m.core(); }
  bool popf(u64 value, u8 opsize = 8) {
    c().gpr[kRsp] = 0x9000;
    m.poke<u64>(0x9000, value);
    return m.call(sys_popf, {.opsize = opsize});
  }
  void go_v86(u64 flags) {
    m.go_protected();
    c().other_flags |= kVM | flags;
    for (Segment& segment : c().seg) segment = {.attributes = 0xf3, .limit = 0xffff};
    update_mode(c());
  }
  SystemMachine m;
};

TEST_F(Flags, KernelPopsEverythingButVmAndRf) {
  ASSERT_TRUE(popf(~u64{0}));
  EXPECT_EQ(c().rflags(), (0x3f7fd7u & ~(kVM | kRF | kVIF | kVIP)));
}

TEST_F(Flags, UserCannotChangeIoplAndIf) {
  m.go_user64();
  ASSERT_TRUE(popf(0x3202 | kDF));
  EXPECT_EQ(c().rflags(), 2u | kDF);
}

TEST_F(Flags, StiNotesWhereItsShadowEndsOnlyWhenItEnables) {
  c().set_rflags(2);
  c().rip = 0x1000;
  ASSERT_TRUE(m.call(sys_sti, {}, 1));
  EXPECT_EQ(c().shadow_rip, 0x1001u);
  EXPECT_FALSE(c().interrupt_shadow);
  EXPECT_EQ(c().attention, 0u) << "nothing waits";
  c().shadow_rip = kNoShadow;
  ASSERT_TRUE(m.call(sys_sti, {}, 1));
  EXPECT_EQ(c().shadow_rip, kNoShadow);
}

TEST_F(Flags, ResumeFlagIsKeptOnlyForInstructionBreakpoints) {
  set_flags(c(), 2 | kRF);
  EXPECT_FALSE(c().other_flags & kRF);
  EXPECT_FALSE(needs_stepping(c()));
  c().dr7 = 0x400 | 2;  // an instruction breakpoint
  set_flags(c(), 2 | kRF);
  EXPECT_TRUE(c().other_flags & kRF);
  EXPECT_TRUE(needs_stepping(c()));
}

TEST_F(Flags, CliNeedsIopl) {
  m.go_user64();
  EXPECT_FALSE(m.call(sys_cli, {}));
  EXPECT_FAULT(c(), kGP, 0);
  c().other_flags |= kIOPL | kIF;
  ASSERT_TRUE(m.call(sys_cli, {}));
  EXPECT_FALSE(c().rflags() & kIF);
}

TEST_F(Flags, V86ModeWithoutIopl3TrapsFlagInstructions) {
  go_v86(0);
  for (SystemFunction function : {sys_pushf, sys_popf, sys_cli, sys_sti}) {
    EXPECT_FALSE(m.call(function, {.opsize = 2}));
    EXPECT_FAULT(c(), kGP, 0);
  }
}

TEST_F(Flags, V86ModeWithIopl3PopsWithoutTouchingIopl) {
  go_v86(kIOPL);
  ASSERT_TRUE(popf(0x0202, 2));
  EXPECT_EQ(c().rflags() & (kIF | kIOPL | kVM), u64{kIF | kIOPL | kVM});
}

TEST_F(Flags, SingleStepTrapsAfterTheInstruction) {
  c().set_rflags(2 | kTF);
  StepState before = step_state(c());
  EXPECT_FALSE(after_instruction(c(), before));
  EXPECT_EQ(c().fault.vector, kDB);
  EXPECT_TRUE(c().fault.trap);
  EXPECT_EQ(c().fault.dr6, 0x4000u);
}

TEST_F(Flags, IntClearsTheStepWithoutATrap) {
  m.gate64(0x80, M::kCode64, 0x1000);
  c().set_rflags(2 | kTF);
  StepState before = step_state(c());
  ASSERT_TRUE(m.call(sys_int, {.imm = 0x80}));
  EXPECT_TRUE(after_instruction(c(), before));
  EXPECT_FALSE(c().fault_pending);
}

TEST_F(Flags, InstructionBreakpointFiresUnlessResumed) {
  c().dr[1] = 0x5000;
  c().dr7 = 0x400 | 8;
  c().rip = 0x5000;
  EXPECT_TRUE(needs_stepping(c()));
  EXPECT_FALSE(before_instruction(c()));
  EXPECT_EQ(c().fault.dr6, 2u);
  EXPECT_FALSE(c().fault.trap);
  c().fault_pending = false;
  c().other_flags |= kRF;
  EXPECT_TRUE(before_instruction(c()));
  EXPECT_TRUE(after_instruction(c(), step_state(c())));
  EXPECT_FALSE(c().other_flags & kRF);
}

TEST_F(Flags, PortsFollowTheBitmapOfTheTask) {
  m.go_user64();
  m.poke<u16>(M::kTss + 0x66, 0x68);
  c().tr.limit = 0x68 + 0x81;
  m.poke<u16>(M::kTss + 0x68 + 0x3f8 / 8, 0xff02);
  EXPECT_TRUE(check_io_permission(c(), 0x3f8, 1));
  EXPECT_FALSE(check_io_permission(c(), 0x3f8, 2));
  EXPECT_FAULT(c(), kGP, 0);
  EXPECT_FALSE(check_io_permission(c(), 0x3ff, 2)) << "the second byte's bits count";
  EXPECT_FALSE(check_io_permission(c(), 0x440, 1)) << "beyond the TSS";
  c().other_flags |= kIOPL;
  EXPECT_TRUE(check_io_permission(c(), 0x440, 1));
}

}  // namespace
}  // namespace atl::soft
