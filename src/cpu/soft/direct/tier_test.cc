#include "cpu/soft/direct/tier.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "cpu/soft/direct/registers.h"
#include "cpu/soft/direct/stub.h"
#include "cpu/soft/exec/test_machine.h"
#include "cpu/soft/native/image.h"

namespace atl::soft {
namespace {

/// User code at kUser, in a helper, until SYSCALL or an exception leads to the kernel, which shuts the machine down.
class TierTest : public testing::TestWithParam<bool> {
 protected:
  static constexpr u64 kUser = 0x400000, kUserStack = 0x500000, kKernel = 0x600000, kTable = 0x700000, kPaged = 0x800000;

  void SetUp() override {
    Core& c = m_.core();
    c.xcr0 = direct::HostState::get().mask;
    m_.load(kKernel, std::array<u8, 2>{0x0f, 0x0b});
    c.msr.lstar = kKernel;
    c.msr.star = u64{0x230008} << 32;
    c.idtr.limit = 0;
    for (u64 i = 0; i < 512; ++i) m_.poke<u64>(kTable + i * 8, (kPaged + i * 4096) | 0x67);
    m_.poke<u64>(TestMachine::kPageTables + 0x2000 + (kPaged >> 21) * 8, kTable | 0x67);
    m_.enter_user_mode_like_linux();
    c.gpr[kRsp] = kUserStack;
    if (!GetParam()) return;
    if (auto status = m_.add_direct(); !status) GTEST_SKIP() << status.error().text();
  }
  void put(u64 at, const std::vector<u8>& code) {
    m_.load(at, code);
    m_.vm().code.wrote(at, code.size());
  }
  RunExit run(const std::vector<u8>& code) {
    put(kUser, code);
    m_.core().rip = kUser;
    return run_on();
  }
  RunExit run_on() { return soft::run(m_.core()); }
  /// Once more from the start, as after SYSRET.
  void back_to_user() {
    m_.enter_user_mode_like_linux();
    m_.core().rip = kUser;
    run_on();
  }
  u64 reg(Gpr number) { return m_.core().gpr[number]; }
  u64 counter(std::string_view name) {
    cpu::Counters all;
    if (GetParam()) m_.direct().add_counters(all);
    for (const auto& [key, value] : all)
      if (key == name) return value;
    return 0;
  }

  TestMachine m_;
};

INSTANTIATE_TEST_SUITE_P(InterpretedAndDirect, TierTest, testing::Bool());

TEST_P(TierTest, ALoopRunsAndItsSystemCallReachesTheKernel) {
  m_.core().gpr[kRcx] = 100000;
  EXPECT_EQ(run({0x48, 0xff, 0xc0, 0x48, 0xff, 0xc9, 0x75, 0xf8, 0x0f, 0x05}), RunExit::Reset);
  EXPECT_EQ(reg(kRax), 100000u);
  EXPECT_EQ(reg(kRcx), kUser + 10);
  EXPECT_EQ(m_.core().rip, kKernel);
  EXPECT_EQ(m_.core().cpl, 0);
  EXPECT_EQ(counter("direct_system_calls"), GetParam() ? 1u : 0u);
}

TEST_P(TierTest, MemoryIsTheGuests) {
  m_.core().gpr[kRdi] = kPaged + 0x1ffc;  // across two pages
  m_.core().gpr[kRax] = 0x1122334455667788;
  m_.poke<u64>(kTable + 8, (kPaged + 0x5000) | 0x67);
  EXPECT_EQ(run({0x48, 0x89, 0x07, 0x48, 0x8b, 0x1f, 0x0f, 0x05}), RunExit::Reset);  // MOV [RDI], RAX; MOV RBX, [RDI]
  EXPECT_EQ(reg(kRbx), 0x1122334455667788u);
  EXPECT_EQ(m_.peek<u32>(kPaged + 0x5ffc), 0x55667788u);
  EXPECT_EQ(m_.peek<u32>(kPaged + 0x2000), 0x11223344u);
}

TEST_P(TierTest, AWriteMakesThePageDirty) {
  m_.poke<u64>(kTable + 0x18, (kPaged + 0x3000) | 7);
  m_.core().gpr[kRdi] = kPaged + 0x3000;
  run({0x48, 0x8b, 0x07, 0x48, 0x89, 0x07, 0x0f, 0x05});
  EXPECT_EQ(m_.peek<u64>(kTable + 0x18), (kPaged + 0x3000) | 0x67);
}

TEST_P(TierTest, AReadDoesNot) {
  m_.poke<u64>(kTable + 0x18, (kPaged + 0x3000) | 7);
  m_.core().gpr[kRdi] = kPaged + 0x3000;
  run({0x48, 0x8b, 0x07, 0x0f, 0x05});
  EXPECT_EQ(m_.peek<u64>(kTable + 0x18), (kPaged + 0x3000) | 0x27);
}

TEST_P(TierTest, PageFaultsTellTheKernelWhere) {
  m_.poke<u64>(kTable + 0x20, 0);
  m_.core().gpr[kRdi] = kPaged + 0x4ffc;
  m_.poke<u64>(kTable + 0x20, (kPaged + 0x4000) | 5);  // not writable
  EXPECT_EQ(run({0x90, 0x48, 0x89, 0x07}), RunExit::Reset);
  EXPECT_EQ(m_.core().cr2, kPaged + 0x4ffc);
  EXPECT_EQ(m_.core().rip, kUser + 1);
}

TEST_P(TierTest, KernelPagesAreOutOfReach) {
  m_.poke<u64>(kTable + 0x20, (kPaged + 0x4000) | 3);
  m_.core().gpr[kRdi] = kPaged + 0x4000;
  run({0x48, 0x8b, 0x07});
  EXPECT_EQ(m_.core().cr2, kPaged + 0x4000);
  EXPECT_EQ(m_.core().rip, kUser);
}

TEST_P(TierTest, VectorsSurviveExits) {
  for (unsigned i = 0; i < 16; ++i) image::xmm(m_.core(), i)[3] = static_cast<u8>(i + 1);
  image::set_mxcsr(m_.core(), 0x3f80);
  // PADDB XMM1, XMM2; RDTSC; PADDB XMM1, XMM3; SYSCALL
  run({0x66, 0x0f, 0xfc, 0xca, 0x0f, 0x31, 0x66, 0x0f, 0xfc, 0xcb, 0x0f, 0x05});
  EXPECT_EQ(image::xmm(m_.core(), 1)[3], 2 + 3 + 4);
  EXPECT_EQ(image::xmm(m_.core(), 15)[3], 16);
  EXPECT_EQ(image::mxcsr(m_.core()), 0x3f80u);
}

TEST_P(TierTest, FlagsAndBasesSurviveExits) {
  m_.core().seg[kFs].base = kPaged;
  m_.core().gpr[kRax] = kPaged + 0x100;
  m_.poke<u64>(kPaged + 8, 77);
  m_.poke<u64>(kPaged + 0x108, 78);
  // MOV RBX, FS:[8]; WRFSBASE RAX; STD; STC; RDTSC; PUSHFQ; CLD; MOV RCX, FS:[8]; MOV R8, RCX; POP R9; SYSCALL
  run({0x64, 0x48, 0x8b, 0x1c, 0x25, 8, 0, 0, 0, 0xf3, 0x48, 0x0f, 0xae, 0xd0, 0xfd, 0xf9, 0x0f, 0x31, 0x9c, 0xfc,
       0x64, 0x48, 0x8b, 0x0c, 0x25, 8, 0, 0, 0, 0x49, 0x89, 0xc8, 0x41, 0x59, 0x0f, 0x05});
  EXPECT_EQ(reg(kRbx), 77u);
  EXPECT_EQ(reg(kR8), 78u);
  EXPECT_EQ(reg(kR9) & 0xc01, 0x401u);
  EXPECT_EQ(m_.core().seg[kFs].base, kPaged + 0x100);
}

TEST_P(TierTest, CpuidIsTheGuests) {
  run({0x31, 0xc0, 0x0f, 0xa2, 0x0f, 0x05});
  EXPECT_EQ(reg(kRbx), m_.core().cpuid->query(0, 0).ebx);
  EXPECT_EQ(counter("direct_refused_pages"), GetParam() ? 1u : 0u);
}

TEST_P(TierTest, CodeThatWritesItselfRuns) {
  // MOV BYTE [RIP + 1], 5; MOV EAX, 0 (whose immediate becomes 5); SYSCALL
  run({0xc6, 0x05, 1, 0, 0, 0, 5, 0xb8, 0, 0, 0, 0, 0x0f, 0x05});
  EXPECT_EQ(reg(kRax), 5u);
}

TEST_P(TierTest, DivisionByZeroIsTheGuests) {
  EXPECT_EQ(run({0x31, 0xc9, 0xf7, 0xf1}), RunExit::Reset);
  EXPECT_EQ(m_.core().rip, kUser + 2);
}

TEST_P(TierTest, BreakpointsAndUndefinedInstructionsAreExceptions) {
  EXPECT_EQ(run({0x90, 0xcc}), RunExit::Reset);
  EXPECT_EQ(run({0x90, 0x0f, 0x0b}), RunExit::Reset);
}

TEST_P(TierTest, AKickEndsALoop) {
  std::thread kicker([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    request_attention(m_.core(), kAttendKick);
  });
  EXPECT_EQ(run({0x48, 0xff, 0xc0, 0xeb, 0xfb}), RunExit::Kicked);
  kicker.join();
  EXPECT_GT(reg(kRax), 1000u);
  EXPECT_GE(m_.core().rip, kUser);
  EXPECT_LE(m_.core().rip, kUser + 3);
}

TEST_P(TierTest, InvalidatedPagesAreGone) {
  m_.core().gpr[kRdi] = kPaged + 0x6000;
  m_.poke<u32>(kPaged + 0x6000, 1);
  m_.poke<u32>(kPaged + 0x7000, 2);
  const std::vector<u8> code = {0x8b, 0x07, 0x0f, 0x05};  // MOV EAX, [RDI]; SYSCALL
  run(code);
  EXPECT_EQ(reg(kRax), 1u);
  m_.poke<u64>(kTable + 0x30, (kPaged + 0x7000) | 0x67);
  flush_tlb_page(m_.core(), kPaged + 0x6000);
  back_to_user();
  EXPECT_EQ(reg(kRax), 2u);
  m_.poke<u64>(kTable + 0x30, (kPaged + 0x6000) | 0x67);
  switch_space(m_.core(), false);
  back_to_user();
  EXPECT_EQ(reg(kRax), 1u);
}

TEST_P(TierTest, ADeadHelperIsNotMissed) {
  if (!GetParam()) return;
  ::kill(m_.direct().helper(), SIGKILL);
  m_.core().gpr[kRcx] = 1000;
  EXPECT_EQ(run({0x48, 0xff, 0xc0, 0x48, 0xff, 0xc9, 0x75, 0xf8, 0x0f, 0x05}), RunExit::Reset);
  EXPECT_EQ(reg(kRax), 1000u);
}

/// Wherever in the stub it jumps to, with whatever registers: the guest's program gets an exception, goes round in circles until a kick, or
/// loses its helper. The machine goes on.
TEST_P(TierTest, JumpsIntoTheStubAreHarmless) {
  if (!GetParam()) return;
  for (u64 offset = 0; offset < direct::stub_code().size(); offset += 3) {
    SCOPED_TRACE(offset);
    TestMachine& m = m_;
    if (m.direct().helper() == 0) {
      ASSERT_TRUE(m.add_direct());
    }
    for (Gpr reg : {kRax, kRdi, kRsi, kRdx, kRbp, kRbx}) m.core().gpr[reg] = offset % 2 ? 11 : direct::kExchange + 0x3000;
    m.core().gpr[kR15] = direct::kStub + offset;
    std::atomic<bool> done = false;
    std::thread kicker([&] {
      for (; !done; std::this_thread::sleep_for(std::chrono::milliseconds(2))) request_attention(m.core(), kAttendKick);
    });
    m.enter_user_mode_like_linux();
    run({0x41, 0xff, 0xe7});  // JMP R15
    done = true;
    kicker.join();
    m.core().attention = 0;
  }
  m_.enter_user_mode_like_linux();
  m_.core().gpr[kRcx] = 1000;
  m_.core().gpr[kRax] = 0;
  EXPECT_EQ(run({0x48, 0xff, 0xc0, 0x48, 0xff, 0xc9, 0x75, 0xf8, 0x0f, 0x05}), RunExit::Reset);
  EXPECT_EQ(reg(kRax), 1000u);
}

}  // namespace
}  // namespace atl::soft
