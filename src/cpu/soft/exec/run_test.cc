#include "cpu/soft/exec/run.h"

#include <gtest/gtest.h>

#include "cpu/soft/exec/test_machine.h"

namespace atl::soft {
namespace {

TEST(Step, MovesAnImmediate) {
  TestMachine m;
  m.code({0xb8, 0x78, 0x56, 0x34, 0x12});  // mov eax, 0x12345678
  m.core().gpr[kRax] = ~u64{0};
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.core().gpr[kRax], 0x12345678u);
  EXPECT_EQ(m.core().rip, TestMachine::kCode + 5);
}

TEST(Step, LoadsRelativeToRip) {
  TestMachine m;
  m.poke<u64>(TestMachine::kData, 0x1122334455667788);
  i32 disp = static_cast<i32>(TestMachine::kData - (TestMachine::kCode + 7));
  m.code({0x48, 0x8b, 0x0d, static_cast<u8>(disp), static_cast<u8>(disp >> 8), static_cast<u8>(disp >> 16), 0});
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.core().gpr[kRcx], 0x1122334455667788u);
}

/// Stops run() from inside the guest: OUT 0x80. The block it is in goes on to its end, so JMP $ follows.
struct Kicker final : memory::BusDevice {
  Core* core = nullptr;
  u64 bus_read(u64, unsigned) override { return 0; }
  void bus_write(u64, u64, unsigned) override { request_attention(*core, kAttendKick); }
};

void add_kicker(TestMachine& m, Kicker& kicker) {
  kicker.core = &m.core();
  ASSERT_TRUE(m.ports().add({.name = "kicker", .base = 0x80, .size = 1, .device = &kicker}));
}

/// Compare-and-jump pairs run as one handler in blocks and as two instructions in steps.
TEST(Run, FusedBranchesGoWhereSingleStepsGo) {
  TestMachine m;
  Core& core = m.core();
  Kicker kicker;
  add_kicker(m, kicker);
  const std::vector<std::vector<u8>> comparisons = {
      {0x48, 0x39, 0xd8}, {0x39, 0xd8}, {0x38, 0xd8},              // cmp rax/eax/al, rbx/ebx/bl
      {0x48, 0x83, 0xf8, 0xff}, {0x83, 0xf8, 0x01}, {0x3c, 0x80},  // cmp with an immediate
      {0x48, 0x85, 0xd8}, {0x84, 0xd8}, {0xa9, 1, 0, 0, 0x80}};    // test
  const u64 values[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000, ~u64{0}, u64{1} << 63};
  for (const auto& comparison : comparisons) {
    for (u8 condition = 0; condition < 16; ++condition) {
      std::vector<u8> code = comparison;
      code.insert(code.end(), {static_cast<u8>(0x70 | condition), 2, 0xb1, 1, 0xe6, 0x80, 0xeb, 0xfe});  // jcc + 2 ; mov cl, 1 ; out ; jmp $
      m.code(code);
      for (u64 a : values) {
        for (u64 b : values) {
          core.gpr[kRax] = a, core.gpr[kRbx] = b, core.gpr[kRcx] = 0, core.rip = TestMachine::kCode;
          ASSERT_EQ(run(core), cpu::RunExit::Kicked);
          u64 fell_through = core.gpr[kRcx], flags = core.rflags();
          core.gpr[kRcx] = 0, core.rip = TestMachine::kCode;
          ASSERT_TRUE(m.step(2));
          bool taken = core.rip == TestMachine::kCode + comparison.size() + 4;
          ASSERT_EQ(fell_through, taken ? 0u : 1u) << "condition " << unsigned{condition};
          ASSERT_EQ(core.rflags(), flags);
        }
      }
    }
  }
}

TEST(Run, CountsALoopUntilKicked) {
  TestMachine m;
  m.code({0xb9, 0x40, 0x42, 0x0f, 0x00,   // mov ecx, 1000000
          0xff, 0xc0,                     // l: inc eax
          0xff, 0xc9,                     // dec ecx
          0x75, 0xfa,                     // jnz l
          0xe6, 0x80,                     // out 0x80, al
          0xeb, 0xfe});                   // jmp $
  Kicker kicker;
  add_kicker(m, kicker);
  EXPECT_EQ(run(m.core()), cpu::RunExit::Kicked);
  EXPECT_EQ(m.core().gpr[kRax], 1000000u);
  EXPECT_EQ(m.core().gpr[kRcx], 0u);
}

}  // namespace
}  // namespace atl::soft
