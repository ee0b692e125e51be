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

TEST(Run, CountsALoopUntilKicked) {
  TestMachine m;
  m.code({0xb9, 0x40, 0x42, 0x0f, 0x00,   // mov ecx, 1000000
          0xff, 0xc0,                     // l: inc eax
          0xff, 0xc9,                     // dec ecx
          0x75, 0xfa,                     // jnz l
          0xe6, 0x80,                     // out 0x80, al
          0xeb, 0xfe});                   // jmp $
  struct Kicker final : memory::BusDevice {
    Core* core = nullptr;
    u64 bus_read(u64, unsigned) override { return 0; }
    void bus_write(u64, u64, unsigned) override { request_attention(*core, kAttendKick); }
  } kicker;
  kicker.core = &m.core();
  ASSERT_TRUE(m.ports().add({.name = "kicker", .base = 0x80, .size = 1, .device = &kicker}));
  EXPECT_EQ(run(m.core()), cpu::RunExit::Kicked);
  EXPECT_EQ(m.core().gpr[kRax], 1000000u);
  EXPECT_EQ(m.core().gpr[kRcx], 0u);
}

}  // namespace
}  // namespace atl::soft
