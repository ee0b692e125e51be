#include "cpu/soft/direct/helper.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "cpu/soft/direct/stub.h"

namespace atl::soft::direct {
namespace {

constexpr u64 kCode = 0x400000, kMxcsr = 0x1f80;

Order unmap(u64 from, u64 to) { return {SYS_munmap, {from, to - from}}; }

/// A helper with one page of code at kCode and a way to see how it stopped.
class HelperTest : public testing::Test {
 protected:
  void SetUp() override {
    auto helper = Helper::create();
    if (!helper) GTEST_SKIP() << helper.error().text();
    helper_ = *std::move(helper);
    ram_ = Fd(::memfd_create("ram", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(ram_.get(), 0x10000), 0);
    memory_ = MUST(Mapping::of_file(ram_, 0, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED));
    its_ram_ = MUST(helper_->give(ram_));
    std::memcpy(helper_->exchange().xsave.data() + 24, &kMxcsr, 4);
    helper_->exchange().xsave[512] = 2;
    helper_->exchange().xsave_mask = 3;
  }

  Order map(u64 at, u64 offset, int protection) {
    return {SYS_mmap, {at, 0x1000, static_cast<u64>(protection), MAP_SHARED | MAP_FIXED, static_cast<u64>(its_ram_), offset}};
  }
  /// Runs `code` with these orders before it. What stopped it is in frame().
  void run(std::initializer_list<u8> code, std::vector<Order> orders = {}) {
    std::copy(code.begin(), code.end(), memory_.data());
    if (orders.empty()) orders = {unmap(0, kStub), unmap(kReservedEnd, kUserEnd), map(kCode, 0, PROT_READ | PROT_EXEC)};
    Exchange& x = helper_->exchange();
    x.rip = kCode;
    x.cs = 0x33;
    x.ss = 0x2b;
    x.rflags = 0x202;
    exit_ = helper_->run(orders);
  }
  const SignalFrame& frame() {
    EXPECT_GE(exit_.context, kExchange);
    EXPECT_LT(exit_.context, kReservedEnd - sizeof(SignalFrame));
    return *reinterpret_cast<const SignalFrame*>(reinterpret_cast<u8*>(&helper_->exchange()) + (exit_.context - kExchange));
  }

  std::unique_ptr<Helper> helper_;
  Fd ram_;
  Mapping memory_;
  int its_ram_ = -1;
  Helper::Exit exit_;
};

TEST_F(HelperTest, RunsALoopUntilItsSystemCallTraps) {
  helper_->exchange().gpr[1] = 1000;  // RCX
  run({0x48, 0xff, 0xc0, 0x48, 0xff, 0xc9, 0x75, 0xf8, 0x0f, 0x05});  // INC RAX; DEC RCX; JNZ; SYSCALL
  ASSERT_TRUE(exit_.alive);
  EXPECT_EQ(frame().signal, static_cast<u32>(SIGSYS));
  EXPECT_EQ(frame().rax, 1000u);
  EXPECT_EQ(frame().rip, kCode + 10);
}

TEST_F(HelperTest, FaultsTellTheAddressAndTheAccess) {
  run({0x48, 0xa3, 0x34, 0x12, 0x50, 0, 0, 0, 0, 0});  // MOV [0x501234], RAX
  ASSERT_TRUE(exit_.alive);
  EXPECT_EQ(frame().signal, static_cast<u32>(SIGSEGV));
  EXPECT_EQ(frame().trap, 14u);
  EXPECT_EQ(frame().cr2, 0x501234u);
  EXPECT_EQ(frame().error & 2, 2u);
  run({}, {map(0x501000, 0x1000, PROT_READ | PROT_WRITE)});
  EXPECT_EQ(exit_.orders_done, 1u);
  EXPECT_EQ(frame().rip, kCode + 10);  // zero bytes: ADD [RAX], AL
}

TEST_F(HelperTest, AKickEndsALoop) {
  std::thread kicker([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    helper_->kick();
  });
  run({0xeb, 0xfe});
  kicker.join();
  ASSERT_TRUE(exit_.alive);
  EXPECT_EQ(frame().signal, static_cast<u32>(SIGUSR1));
  EXPECT_EQ(frame().rip, kCode);
}

TEST_F(HelperTest, TimeStampReadsTrap) {
  run({0x0f, 0x31});
  ASSERT_TRUE(exit_.alive);
  EXPECT_EQ(frame().trap, 13u);
  EXPECT_EQ(frame().rip, kCode);
}

TEST_F(HelperTest, JumpsToTheStubsSystemCallCannotMap) {
  Exchange& x = helper_->exchange();
  x.gpr[0] = SYS_munmap;
  x.gpr[7] = 0;            // RDI
  x.gpr[6] = kStub;        // RSI
  x.gpr[15] = kStub + stub_resume() - 2;
  run({0x41, 0xff, 0xe7});
  EXPECT_FALSE(exit_.alive);  // not ordered: the end of this helper
}

TEST_F(HelperTest, OtherSystemCallsTrapFromTheStubToo) {
  Exchange& x = helper_->exchange();
  x.gpr[0] = SYS_exit_group;
  x.gpr[15] = kStub + stub_resume() - 2;
  run({0x41, 0xff, 0xe7});
  ASSERT_TRUE(exit_.alive);
  EXPECT_EQ(frame().signal, static_cast<u32>(SIGSYS));
  EXPECT_EQ(frame().rip, kStub + stub_resume());
}

TEST_F(HelperTest, ThirtyTwoBitSystemCallsTrap) {
  run({0xcd, 0x80});
  ASSERT_TRUE(exit_.alive);
  EXPECT_TRUE(frame().signal == SIGSYS || frame().trap == 13u) << frame().signal;
}

TEST_F(HelperTest, DeathIsNoticed) {
  std::thread killer([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ::kill(helper_->pid(), SIGKILL);
  });
  run({0xeb, 0xfe});
  killer.join();
  EXPECT_FALSE(exit_.alive);
  run({0xeb, 0xfe});
  EXPECT_FALSE(exit_.alive);
}

}  // namespace
}  // namespace atl::soft::direct
