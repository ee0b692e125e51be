#include <gtest/gtest.h>

#include <cstring>

#include "cpu/soft/exec/test_machine.h"

namespace atl::soft {
namespace {

constexpr u64 kFrom = TestMachine::kData, kTo = TestMachine::kData + 0x10000;

struct StringTest : testing::Test {
  TestMachine m;
  Core& core = m.core();
  void point(u64 from, u64 to, u64 count) {
    core.gpr[kRsi] = from;
    core.gpr[kRdi] = to;
    core.gpr[kRcx] = count;
  }
};

TEST_F(StringTest, CopiesAcrossPages) {
  for (u64 i = 0; i < 10000; ++i) m.ram()[kFrom + i] = static_cast<u8>(i * 7);
  point(kFrom + 5, kTo + 9, 9000);
  m.code({0xf3, 0xa4});  // rep movsb
  ASSERT_TRUE(m.step());
  EXPECT_EQ(std::memcmp(m.ram() + kFrom + 5, m.ram() + kTo + 9, 9000), 0);
  EXPECT_EQ(core.gpr[kRcx], 0u);
  EXPECT_EQ(core.gpr[kRsi], kFrom + 5 + 9000);
  EXPECT_EQ(core.gpr[kRdi], kTo + 9 + 9000);
  EXPECT_EQ(core.rip, TestMachine::kCode + 2);
}

TEST_F(StringTest, OverlappingCopyRepeatsThePattern) {
  m.poke<u16>(kFrom, 0x4241);
  point(kFrom, kFrom + 2, 6);
  m.code({0xf3, 0xa4});
  ASSERT_TRUE(m.step());
  EXPECT_EQ(std::string(reinterpret_cast<char*>(m.ram() + kFrom), 8), "ABABABAB");
}

TEST_F(StringTest, BackwardCopyFollowsTheDirectionFlag) {
  m.poke<u32>(kFrom, 0x44434241);
  point(kFrom + 3, kTo + 3, 4);
  core.set_rflags(kDF | 2);
  m.code({0xf3, 0xa4});
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.peek<u32>(kTo), 0x44434241u);
  EXPECT_EQ(core.gpr[kRsi], kFrom - 1);
}

TEST_F(StringTest, BackwardCopyAcrossPagesKeepsOverlappingBytes) {
  for (u64 i = 0; i < 9000; ++i) m.ram()[kFrom + i] = static_cast<u8>(i * 7 + i / 256);
  std::vector<u8> before(m.ram() + kFrom, m.ram() + kFrom + 8000);
  point(kFrom + 7992, kFrom + 7992 + 40, 1000);
  core.set_rflags(kDF | 2);
  m.code({0xf3, 0x48, 0xa5});  // rep movsq, upwards into itself
  ASSERT_TRUE(m.step());
  EXPECT_EQ(std::memcmp(m.ram() + kFrom + 40, before.data(), 8000), 0);
  EXPECT_EQ(core.gpr[kRcx], 0u);
  EXPECT_EQ(core.gpr[kRsi], kFrom - 8);
  EXPECT_EQ(core.gpr[kRdi], kFrom + 32);
}

TEST_F(StringTest, BackwardStoreFillsDownwards) {
  point(0, kTo + 0x1ffe, 0x1000);
  core.gpr[kRax] = 0x1234;
  core.set_rflags(kDF | 2);
  m.code({0xf3, 0x66, 0xab});  // rep stosw
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.peek<u16>(kTo), 0x1234);
  EXPECT_EQ(m.peek<u16>(kTo + 0x1ffe), 0x1234);
  EXPECT_EQ(m.peek<u16>(kTo + 0x2000), 0);
  EXPECT_EQ(core.gpr[kRdi], kTo - 2);
}

TEST_F(StringTest, CompareStopsPastTheDifferenceWithItsFlags) {
  for (u64 i = 0; i < 6000; ++i) m.ram()[kFrom + i] = m.ram()[kTo + i] = static_cast<u8>(i);
  m.ram()[kTo + 5000] = static_cast<u8>(m.ram()[kFrom + 5000] + 1);
  point(kFrom, kTo, 6000);
  m.code({0xf3, 0xa6});  // repe cmpsb
  ASSERT_TRUE(m.step());
  EXPECT_EQ(core.gpr[kRsi], kFrom + 5001);
  EXPECT_EQ(core.gpr[kRdi], kTo + 5001);
  EXPECT_EQ(core.gpr[kRcx], 999u);
  EXPECT_FALSE(core.rflags() & kZF);
  EXPECT_TRUE(core.rflags() & kCF);
}

TEST_F(StringTest, CompareOfEqualBytesEndsWithTheCount) {
  point(kFrom, kTo, 5000);
  m.code({0xf3, 0xa6});
  ASSERT_TRUE(m.step());
  EXPECT_EQ(core.gpr[kRcx], 0u);
  EXPECT_EQ(core.gpr[kRdi], kTo + 5000);
  EXPECT_TRUE(core.rflags() & kZF);
}

TEST_F(StringTest, FaultLeavesExactRegisters) {
  constexpr u64 kHole = u64{1} << 30;  // the page tables map one GiB
  point(0, kHole - 16, 5);             // two elements fit
  m.code({0xf3, 0x48, 0xab});  // rep stosq
  EXPECT_FALSE(m.step());      // no IDT
  EXPECT_EQ(core.gpr[kRcx], 3u);
  EXPECT_EQ(core.gpr[kRdi], kHole);
  EXPECT_EQ(core.cr2, kHole);
}

TEST_F(StringTest, ScanStopsPastTheMatch) {
  std::memcpy(m.ram() + kTo, "abcdef", 6);
  point(0, kTo, 100);
  core.gpr[kRax] = 'd';
  m.code({0xf2, 0xae});  // repne scasb
  ASSERT_TRUE(m.step());
  EXPECT_EQ(core.gpr[kRdi], kTo + 4);
  EXPECT_EQ(core.gpr[kRcx], 96u);
  EXPECT_TRUE(core.rflags() & kZF);
}

TEST_F(StringTest, CountOfZeroDoesNothing) {
  point(0, u64{1} << 40, 0);
  m.code({0xf3, 0xaa});
  ASSERT_TRUE(m.step());
  EXPECT_EQ(core.gpr[kRdi], u64{1} << 40);
}

TEST_F(StringTest, SixteenBitAddressesWrap) {
  m.enter_real_mode();
  point(0, 0xffff, 2);
  core.gpr[kRdi] = 0xdeadffff;
  core.gpr[kRax] = 'x';
  m.code({0xf3, 0xaa});
  core.rip = TestMachine::kCode & 0xffff;
  core.seg[kCs].base = TestMachine::kCode & ~u64{0xffff};
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.ram()[0xffff], 'x');
  EXPECT_EQ(m.ram()[0], 'x');
  EXPECT_EQ(core.gpr[kRdi], 0xdead0001u);
}

TEST_F(StringTest, InterruptRequestStopsBetweenRuns) {
  core.gpr[kRcx] = 0x100000;
  core.gpr[kRdi] = kTo;
  m.code({0xf3, 0xaa});
  core.attention = kAttendInterrupt;
  ASSERT_TRUE(m.step());
  EXPECT_EQ(core.rip, TestMachine::kCode);
  EXPECT_LT(core.gpr[kRcx], 0x100000u);
  EXPECT_GT(core.gpr[kRcx], 0u);
}

}  // namespace
}  // namespace atl::soft
